/**
 * Pushes sample paths into the view "main" of an index, several at a time, and prints the seed of each as
 * soon as it is acknowledged. Arguments: file, prefix of the seeds, how many.
 */
import { openSqliteIndex } from "../../src/index/sqlite-index.ts";
import { sampleKey, sampleObject, samplePath, sampleView } from "./index-samples.ts";

const [file = "", prefix = "", count = "0"] = process.argv.slice(2);

await using index = await openSqliteIndex({ file });
await index.createView(sampleView("main"), sampleKey("main-1")).catch(() => {});
const viewId = (await index.findView("main"))?.id ?? 0;
let next = 0;

async function work(): Promise<void> {
  while (next < Number(count)) {
    const seed = `${prefix}${next}`;
    next += 1;
    const { narHash, fileHash } = sampleObject(seed);
    await index.reserveObject(sampleObject(seed), Date.now());
    await index.holdNar({ viewId, narHash, fileHash, expiresAtMs: Date.now() + 60_000 });
    await index.commitPaths(viewId, [samplePath(seed)]);
    // A pipe is written at once, so what the parent reads was acknowledged, whatever happens now.
    process.stdout.write(`${seed}\n`);
  }
}

await Promise.all([work(), work(), work(), work()]);
