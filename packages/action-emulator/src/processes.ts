import { readdir, readFile } from "node:fs/promises";

/** A process that was still there when its job ended. */
export interface OrphanProcess {
  readonly pid: number;
  /** Its program and arguments. */
  readonly command: string;
}

/** Kills a process and all that descend from it. Linux: it reads `/proc`. */
export async function killTree(root: number): Promise<void> {
  if (root <= 0) return;
  const parents = new Map<number, number>();
  for (const pid of await listPids()) {
    const parent = await readParent(pid);
    if (parent !== undefined) parents.set(pid, parent);
  }
  const doomed = [root];
  for (const pid of doomed) {
    for (const [child, parent] of parents) if (parent === pid) doomed.push(child);
  }
  for (const pid of doomed) kill(pid);
}

/**
 * Kills every process whose environment carries the tracking id of a job, as the runner does when the job is over,
 * and tells which there were. Linux: it reads `/proc`.
 */
export async function killTracked(trackingId: string): Promise<OrphanProcess[]> {
  const wanted = `RUNNER_TRACKING_ID=${trackingId}`;
  const orphans: OrphanProcess[] = [];
  for (const pid of await listPids()) {
    if (pid === process.pid) continue;
    const variables = (await readProc(pid, "environ")).split("\0");
    if (!variables.includes(wanted)) continue;
    const command = (await readProc(pid, "cmdline")).split("\0").join(" ").trim();
    if (kill(pid)) orphans.push({ pid, command });
  }
  return orphans;
}

async function listPids(): Promise<number[]> {
  const names = await readdir("/proc").catch(() => []);
  return names.filter((name) => /^\d+$/.test(name)).map(Number);
}

async function readParent(pid: number): Promise<number | undefined> {
  const match = /^PPid:\s*(\d+)$/m.exec(await readProc(pid, "status"));
  return match === null ? undefined : Number(match[1]);
}

/** Empty when the process is gone or somebody else's. */
function readProc(pid: number, name: string): Promise<string> {
  return readFile(`/proc/${pid}/${name}`, "utf8").catch(() => "");
}

function kill(pid: number): boolean {
  try {
    process.kill(pid, "SIGKILL");
    return true;
  } catch {
    return false;
  }
}
