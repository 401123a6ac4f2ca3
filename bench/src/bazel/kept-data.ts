import { access, mkdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

import { formatIndex } from "./bazel-report.ts";
import type { Population } from "./cases.ts";
import { fill } from "./fill.ts";
import { getCases } from "./http-rows.ts";
import { writeStaticBlobs } from "./http-stage.ts";
import { startCasd, startOurs } from "./subjects.ts";

/** What was stored once and is asked for in every run: it takes minutes to store. */
export interface KeptData {
  readonly ours: string;
  readonly casd: string;
  /** The blobs as files, for nginx. */
  readonly www: string;
}

/** Programs of another root see the temporary folder and no other, and casd is one. */
export function defaultDataDirectory(quick: boolean): string {
  return path.join(tmpdir(), `flywheel-bench-bazel-${quick ? "quick" : "full"}`);
}

/** Stores what is not stored yet, for casd and nginx only when there are peers. */
export async function fillOnce(
  directory: string,
  population: Population,
  options: { readonly oursOnly: boolean; readonly say: (line: string) => void },
): Promise<KeptData> {
  const { scale, small } = population;
  const kept: KeptData = {
    ours: path.join(directory, "ours"),
    casd: path.join(directory, "casd"),
    www: path.join(directory, "www"),
  };
  await mkdir(directory, { recursive: true });
  const once = async (name: keyof KeptData, store: () => Promise<void>): Promise<void> => {
    const mark = path.join(directory, `${name}.filled`);
    if (await exists(mark)) return;
    options.say(`filling ${kept[name]} with ${formatIndex(scale)} blobs`);
    await rm(kept[name], { recursive: true, force: true });
    await store();
    await writeFile(mark, "");
  };
  await once("ours", async () => {
    const { process: server, subject } = await startOurs(kept.ours);
    await using _running = server;
    await fill({ subject, scale, small });
  });
  if (options.oursOnly) return kept;
  await once("casd", async () => {
    const casd = await startCasd(kept.casd);
    if (typeof casd === "string") return;
    await using running = casd;
    await fill({ subject: running.subject, scale, small });
  });
  await once("www", async () => {
    for (const each of getCases(population)) writeStaticBlobs(kept.www, each);
    return Promise.resolve();
  });
  return kept;
}

async function exists(file: string): Promise<boolean> {
  return await access(file).then(
    () => true,
    () => false,
  );
}
