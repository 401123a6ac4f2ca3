import type { CliContext } from "./cli-context.ts";
import { run } from "./run.ts";

// A terminal signals every process of a group, and npm passes the signal on as well: two in quick
// succession are one wish.
const ECHO_MS = 1000;

/**
 * Runs this process's command line and sets its exit code.
 *
 * The first interrupt asks the command to stop, the second ends the process at once.
 */
export async function runProcess(): Promise<void> {
  const interrupted = new AbortController();
  let interruptedMs = 0;
  for (const name of ["SIGINT", "SIGTERM"] as const) {
    process.on(name, () => {
      if (interrupted.signal.aborted) {
        if (performance.now() - interruptedMs > ECHO_MS) process.exit(1);
        return;
      }
      interruptedMs = performance.now();
      interrupted.abort();
    });
  }
  for (const stream of [process.stdout, process.stderr]) {
    // Whoever read our output has gone, as in `flywheel … | head`.
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EPIPE") process.exit(1);
      throw error;
    });
  }
  const context: CliContext = {
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    self: [process.execPath, ...process.execArgv, process.argv[1] ?? ""],
    env: process.env,
    workingDirectory: process.cwd(),
    signal: interrupted.signal,
    userId: process.getuid?.(),
    nowMs: () => Date.now(),
  };
  process.exitCode = await run(process.argv.slice(2), context);
  // A standard input that was opened would keep the process alive.
  process.stdin.unref?.();
}
