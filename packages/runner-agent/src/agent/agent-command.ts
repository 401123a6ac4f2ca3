/** Small heaps: what passes through the faces dies young, and a job's machine has other uses for its memory. */
const FACE_FLAGS = ["--max-semi-space-size=2", "--max-old-space-size=96"];

/** A command line: program and arguments. */
export type CommandWords = readonly [program: string, ...args: string[]];

/**
 * How `flywheel agent` is run for a session.
 *
 * @param self - How this command line itself is run: program, its flags, the script.
 */
export function agentCommand(
  self: readonly string[],
  folder: string,
  ...more: readonly ("--drain-only" | "--uploads" | "--wait")[]
): CommandWords {
  const [program = process.execPath, ...rest] = self;
  // An agent that starts its uploads has our flags itself; these need more.
  const words = rest.filter((word) => !FACE_FLAGS.includes(word));
  const script = words.pop() ?? "";
  const flags = more.includes("--uploads") ? words : [...words, ...FACE_FLAGS];
  return [program, ...flags, script, "agent", "--session", folder, ...more];
}

/** The environment that an agent runs in: one heap for all threads keeps freed memory together. */
export function agentEnvironment(
  env: Readonly<Record<string, string | undefined>>,
): Record<string, string | undefined> {
  return { MALLOC_ARENA_MAX: "2", ...env };
}
