/** The first process of a container: runs the job of standard input, and prints what came of it. */
import { readdir, readFile } from "node:fs/promises";
import { text } from "node:stream/consumers";

import { type JobOptions, runJob } from "@glorious/action-emulator";

import type { ContainerJob } from "./container.ts";

async function findZombies(): Promise<string[]> {
  const zombies: string[] = [];
  for (const pid of await readdir("/proc")) {
    const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
    const name = /^Name:\s*(.*)$/m.exec(status)?.[1] ?? "";
    if (/^State:\s*Z/m.test(status)) zombies.push(name);
  }
  return zombies;
}

const job = await runJob(JSON.parse(await text(process.stdin)) as JobOptions);
const result: ContainerJob = { job, zombies: await findZombies() };
process.stdout.write(JSON.stringify(result));
