import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { createWriteStream } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGzip, createZstdCompress } from "node:zlib";

import { encodeNix32, formatNarInfo, parseHash } from "@glorious/nix-store";
import { expect, test } from "vitest";

import { startFlywheelWire } from "./flywheel-wire.ts";
import { createTemporaryDirectory } from "./paths.ts";
import { sendJson } from "./wire.ts";

const MAX_RSS_MIB = 300;
const MIB = 2 ** 20;
const SIZE_MIB = 512;

/** Imports everything and prints its peak memory; runs in a process of its own. */
const IMPORT = `
  import { importPaths, openCache, openSource } from ${JSON.stringify(new URL("../src/index.ts", import.meta.url).href)};
  const [server, url] = process.argv.slice(1);
  await using cache = await openCache({ server, view: "main" });
  await using source = await openSource({ url, keys: undefined });
  const summary = await importPaths({ source, cache, roots: source.list(), followsReferences: true });
  console.log(JSON.stringify({ summary, maxRssMib: process.resourceUsage().maxRSS / 1024 }));
`;

test("large NARs are imported within bounded memory, as they are and encoded anew", async ({
  annotate,
}) => {
  await using directory = await createTemporaryDirectory();
  await mkdir(join(directory.path, "nar"));
  await writeFile(join(directory.path, "nix-cache-info"), "StoreDir: /nix/store\n");
  const encoders = { gzip: createGzip({ level: 1 }), zstd: createZstdCompress() };
  for (const [number, [compression, encoder]] of Object.entries(encoders).entries()) {
    const hash = createHash("sha256");
    const pieces = function* (): Generator<Buffer> {
      for (let piece = 0; piece < SIZE_MIB; piece += 1) {
        const bytes = Buffer.alloc(MIB, `${compression} ${piece}`);
        hash.update(bytes);
        yield bytes;
      }
    };
    const file = createWriteStream(join(directory.path, "nar", compression));
    await pipeline(Readable.from(pieces()), encoder, file);
    const storePathHash = encodeNix32(Buffer.alloc(20, number));
    const narInfo = formatNarInfo({
      storePath: `/nix/store/${storePathHash}-large`,
      url: `nar/${compression}`,
      compression,
      narHash: parseHash(hash.digest("hex"), "sha256"),
      narSize: SIZE_MIB * MIB,
      references: [],
      signatures: [],
    });
    await writeFile(join(directory.path, `${storePathHash}.narinfo`), narInfo);
  }
  await using wire = await startFlywheelWire({
    intercept: async (request, response) => {
      if (request.path === "/_api/v1/get-missing-paths") {
        const { store_path_hashes: asked } = (await request.json()) as {
          store_path_hashes: string[];
        };
        return sendJson(response, 200, { missing_paths: asked });
      }
      if (request.method !== "PUT") return false;
      let fileSize = 0;
      for await (const chunk of request.incoming) fileSize += Buffer.from(chunk).length;
      wire.state.nars.set(request.path.split("/").at(-1) ?? "", Buffer.alloc(0));
      return sendJson(response, 200, { kind: "Uploaded", fileHash: "0".repeat(64), fileSize });
    },
  });

  const child = spawn(
    process.execPath,
    [
      "--conditions=source",
      "--input-type=module",
      "--eval",
      IMPORT,
      "--",
      wire.url,
      `file://${directory.path}`,
    ],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  let output = "";
  for await (const chunk of child.stdout) output += String(chunk);
  const { summary, maxRssMib } = JSON.parse(output) as {
    summary: { added: number };
    maxRssMib: number;
  };

  expect(summary).toMatchObject({ added: 2, failed: 0 });
  expect(maxRssMib).toBeLessThan(MAX_RSS_MIB);
  await annotate(`${Math.round(maxRssMib)} MiB at most, for two NARs of ${SIZE_MIB} MiB`);
});
