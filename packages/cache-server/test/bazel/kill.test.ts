import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import { parseHash } from "@glorious/reapi";
import { expect, test } from "vitest";

import { readContent } from "../../src/bazel/services/blob-content.ts";
import { openTenantStore } from "../../src/bazel/store/tenant-store.ts";
import { blobOf } from "./blobs.ts";

/** The machine may be busy with other things. */
const PATIENCE = { timeout: 30_000 };

test("a writer that is killed loses nothing that it acknowledged, and leaves nothing else behind", async () => {
  const directory = await mkdtemp(join(tmpdir(), "killed-store-"));
  const acknowledged: string[] = [];
  for (const kills of [30, 60, 90]) {
    const writer = spawn(
      process.execPath,
      [
        "--conditions=source",
        fileURLToPath(new URL("./endless-writer.ts", import.meta.url)),
        directory,
      ],
      { stdio: ["ignore", "pipe", "inherit"] },
    );
    const before = acknowledged.length;
    for await (const line of createInterface({ input: writer.stdout })) {
      // The last line may be cut.
      if (/^(blob|action) [0-9a-f]{64} \d+$/.test(line)) acknowledged.push(line);
      if (acknowledged.length >= before + kills) writer.kill("SIGKILL");
    }
    if (writer.exitCode === null && writer.signalCode === null) await once(writer, "exit");
  }

  await using store = await openTenantStore({
    directory,
    views: async () => new Map([[1, { maxBytes: undefined }]]),
    limits: { maxBytes: 2 ** 40, maxBlobBytes: 2 ** 30, ttlMs: 1000, memoryBytes: 2 ** 22 },
  });
  const scope = store.scope(1, "main");
  expect(acknowledged.length).toBeGreaterThanOrEqual(180);
  for (const line of acknowledged) {
    const [kind, hash = "", size] = line.split(" ");
    const key = parseHash(hash);
    if (kind === "action") {
      expect(await scope.findAction(key)).toEqual({ kind: "hit", result: Buffer.from(hash) });
      continue;
    }
    const blob = await scope.findBlob({ key, sizeBytes: Number(size) });
    const content = blob && (await readContent(blob, "identity"));
    expect(blobOf(content ?? "").hash).toBe(hash);
  }
  const { blobs, storedBytes } = await scope.usage();
  expect(storedBytes).toBe(store.storedBytes);
  const isKnown = new Set(acknowledged.map((line) => line.split(" ")[1]));
  // What was committed and not acknowledged yet is there as well; files of neither go.
  const filesOf = async (): Promise<string[]> =>
    (await readdir(join(directory, "store"), { recursive: true, withFileTypes: true }))
      .filter((entry) => entry.isFile() && entry.parentPath.includes("cas"))
      .map(({ name }) => /[0-9a-f]{64}/.exec(name)?.[0] ?? "");
  await expect
    .poll(async () => {
      const unknown = (await filesOf()).filter((hash) => !isKnown.has(hash));
      const here = await Promise.all(unknown.map((hash) => scope.findBlobOfHash(parseHash(hash))));
      return here.filter((blob) => blob === undefined).length;
    }, PATIENCE)
    .toBe(0);
  expect(blobs).toBeGreaterThanOrEqual(isKnown.size - 10);
  await rm(directory, { recursive: true, force: true });
});
