import { spawn } from "node:child_process";
import { truncate } from "node:fs/promises";
import { join } from "node:path";

import { expect, test } from "vitest";

import type { PathInfo } from "../src/index.ts";
import { startFlywheelWire } from "./flywheel-wire.ts";
import { createPath, createTemporaryDirectory } from "./paths.ts";
import { sendJson } from "./wire.ts";

const MAX_RSS_MIB = 300;

/** Pushes one path and prints its peak memory; runs in a process of its own. */
const PUSH = `
  import { openCache } from ${JSON.stringify(new URL("../src/index.ts", import.meta.url).href)};
  const [server, paths] = process.argv.slice(1);
  await using cache = await openCache({ server, view: "main" });
  const summary = await cache.push(JSON.parse(paths));
  console.log(JSON.stringify({ summary, maxRssMib: process.resourceUsage().maxRSS / 1024 }));
`;

async function pushInChild(
  server: string,
  paths: readonly PathInfo[],
): Promise<{ summary: { uploaded: number }; maxRssMib: number }> {
  const child = spawn(
    process.execPath,
    [
      "--conditions=source",
      "--input-type=module",
      "--eval",
      PUSH,
      "--",
      server,
      JSON.stringify(paths),
    ],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  let output = "";
  for await (const chunk of child.stdout) output += String(chunk);
  return JSON.parse(output) as { summary: { uploaded: number }; maxRssMib: number };
}

test("a NAR of 1 GiB is pushed within bounded memory", async () => {
  await using directory = await createTemporaryDirectory();
  await using wire = await startFlywheelWire({
    intercept: async (request, response) => {
      if (request.method !== "PUT") return false;
      let sizeBytes = 0;
      for await (const chunk of request.incoming) sizeBytes += Buffer.from(chunk).length;
      wire.state.nars.set(request.path.split("/").at(-1) ?? "", Buffer.alloc(0));
      return sendJson(response, 200, {
        kind: "Uploaded",
        fileHash: "0".repeat(64),
        fileSize: sizeBytes,
      });
    },
  });
  const small = await createPath(directory.path, "large", { file: "" });
  await truncate(join(small.realPath, "file"), 2 ** 30);
  const large = await createPath(directory.path, "large", {});

  const { summary, maxRssMib } = await pushInChild(wire.url, [large]);

  expect(summary.uploaded).toBe(1);
  expect(large.narSize).toBeGreaterThan(2 ** 30);
  expect(maxRssMib).toBeLessThan(MAX_RSS_MIB);
});
