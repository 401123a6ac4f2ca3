import { mkdir } from "node:fs/promises";
import path from "node:path";

import { formatRate } from "./bazel-report.ts";
import type { ReplayResult } from "./load/replay.ts";
import { summarizeProfiles } from "./profile-summary.ts";
import { startOurs, type Subject } from "./subjects.ts";

/** What can be played against our server, by name. */
export interface Playable {
  readonly name: string;
  readonly play: (subject: Subject) => Promise<ReplayResult>;
}

/** Plays each case against a server of its own that takes V8's processor profile of all its threads. */
export async function profileCases(
  cases: readonly Playable[],
  options: { readonly dataDirectory: string; readonly profileDirectory: string },
): Promise<void> {
  for (const { name, play } of cases) {
    const directory = path.resolve(options.profileDirectory, toFileName(name));
    await mkdir(directory, { recursive: true });
    const { process: server, subject } = await startOurs(options.dataDirectory, {
      NODE_OPTIONS: `--cpu-prof --cpu-prof-dir=${directory}`,
    });
    let result: ReplayResult;
    try {
      result = await play(subject);
    } finally {
      // The profile is written at an orderly end only.
      await server.stop();
    }
    if (result.wrong > 0) throw new Error(`${name}: ${result.firstWrong}`);
    process.stdout.write(
      `\n${name}: ${formatRate(result)}, while profiled\n${await summarizeProfiles(directory)}\n`,
    );
  }
}

function toFileName(name: string): string {
  return name.replaceAll(/[^\w.]+/g, "-");
}
