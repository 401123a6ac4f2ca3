import { mkdir, open, rename } from "node:fs/promises";
import path from "node:path";

import { Recorder } from "./load/recorder.ts";
import { contentOf, sizeOf } from "./population.ts";

/*
 * A program: it writes files of 1 MiB, flushes each and gives it its name, so many at once, and prints how fast. It
 * receives and hashes nothing and does not flush the names, so no server whose answer means "durable" can be faster.
 */

const [directory = "", ...counts] = process.argv.slice(2);
const [files = 0, atOnce = 0] = counts.map(Number);
const content = contentOf("1 MiB", 0);
const recorder = new Recorder();
let begun = 0;

async function writeFiles(): Promise<void> {
  while (begun < files) {
    begun += 1;
    const name = path.join(directory, String(begun));
    const startedAtMs = performance.now();
    const file = await open(`${name}.tmp`, "wx");
    try {
      await file.write(content);
      await file.datasync();
    } finally {
      await file.close();
    }
    await rename(`${name}.tmp`, name);
    recorder.add(performance.now() - startedAtMs, sizeOf("1 MiB"));
  }
}

await mkdir(directory);
const startedAtMs = performance.now();
await Promise.all(Array.from({ length: atOnce }, writeFiles));
const seconds = (performance.now() - startedAtMs) / 1000;
const [p50Ms, p99Ms] = [recorder.quantile(0.5), recorder.quantile(0.99)];
process.stdout.write(JSON.stringify({ perSecond: files / seconds, p50Ms, p99Ms }));
