import { readFile } from "node:fs/promises";

import * as v from "valibot";

/** A process that another one with the same number is not taken for. */
export interface ProcessIdentity {
  readonly pid: number;
  /** When it started, as the kernel counts; absent where the kernel does not say. */
  readonly startTime?: string | undefined;
}

/** {@link ProcessIdentity} in a file. */
export const ProcessIdentitySchema: v.GenericSchema<ProcessIdentity> = v.object({
  pid: v.pipe(v.number(), v.integer(), v.minValue(1)),
  startTime: v.optional(v.string()),
});

interface ProcessFacts {
  readonly name: string;
  readonly parentPid: number;
  readonly startTime: string;
}

/** The process with this number; `undefined` when there is none, or only what is left of a dead one. */
export async function identifyProcess(pid: number): Promise<ProcessIdentity | undefined> {
  if (process.platform !== "linux") return isSignalled(pid) ? { pid } : undefined;
  const facts = await readFacts(pid);
  return facts === undefined ? undefined : { pid, startTime: facts.startTime };
}

/** Whether that very process still runs. A zombie does not: nobody may ever collect it. */
export async function isRunning({ pid, startTime }: ProcessIdentity): Promise<boolean> {
  const now = await identifyProcess(pid);
  return now !== undefined && (startTime === undefined || now.startTime === startTime);
}

/** The runners that have a process of their own for each job, by the names of these processes. */
const WORKERS: ReadonlySet<string> = new Set(["Runner.Worker", "act"]);
const MAX_DEPTH = 32;

/** The runner's process for the job that a process belongs to, where there is such a one. */
export async function findJobProcess(pid: number): Promise<ProcessIdentity | undefined> {
  let current = pid;
  for (let depth = 0; depth < MAX_DEPTH && current > 1; depth += 1) {
    const facts = process.platform === "linux" ? await readFacts(current) : undefined;
    if (facts === undefined) return undefined;
    if (WORKERS.has(facts.name)) return { pid: current, startTime: facts.startTime };
    current = facts.parentPid;
  }
  return undefined;
}

/** @see proc_pid_stat(5): the name is in parentheses and may hold any, the rest is words. */
async function readFacts(pid: number): Promise<ProcessFacts | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, "latin1").catch(() => "");
  const nameEnd = text.lastIndexOf(")");
  if (nameEnd === -1) return undefined;
  const words = text.slice(nameEnd + 2).split(" ");
  const [state = "Z", parentPid = "0"] = words;
  const startTime = words[19];
  if (startTime === undefined || state === "Z" || state === "X") return undefined;
  const name = text.slice(text.indexOf("(") + 1, nameEnd);
  return { name, parentPid: Number(parentPid), startTime };
}

function isSignalled(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
