import { createHash } from "node:crypto";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { encodeNix32, parseStorePathBaseName } from "@glorious/nix-store";

import { dumpStorePath, type PathInfo } from "../src/index.ts";

/** A directory that goes away with the test. */
export interface TemporaryDirectory extends AsyncDisposable {
  readonly path: string;
}

export async function createTemporaryDirectory(): Promise<TemporaryDirectory> {
  const path = await mkdtemp(join(tmpdir(), "cache-client-"));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

/** Writes files below `directory` as the store path `name` would have them, and tells what Nix would know. */
export async function createPath(
  directory: string,
  name: string,
  files: Readonly<Record<string, string | Uint8Array>>,
  facts: { references?: readonly PathInfo[]; signatures?: readonly string[] } = {},
): Promise<PathInfo> {
  const realPath = join(directory, name);
  await mkdir(realPath, { recursive: true });
  for (const [file, contents] of Object.entries(files)) {
    await writeFile(join(realPath, file), contents);
  }
  const hash = createHash("sha256");
  let narSize = 0;
  for await (const chunk of dumpStorePath(realPath)) {
    hash.update(chunk);
    narSize += chunk.length;
  }
  const storePathHash = encodeNix32(createHash("sha1").update(name).digest());
  return {
    storePath: parseStorePathBaseName(`${storePathHash}-${name}`),
    narHash: hash.digest("hex"),
    narSize,
    references: (facts.references ?? []).map(({ storePath }) => storePath.baseName),
    signatures: facts.signatures ?? [],
    realPath,
  };
}
