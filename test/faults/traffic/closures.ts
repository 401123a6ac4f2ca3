import { createHash } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";

import { dumpStorePath, type PathInfo } from "@glorious/cache-client";
import { encodeNix32, parseStorePath } from "@glorious/nix-store";

import type { Random } from "../../random.ts";

/** How big made-up closures are. */
export interface ClosureSizes {
  /** Most paths of one closure. */
  readonly maxPaths: number;
  /** A file is usually far smaller. */
  readonly maxFileBytes: number;
}

/** Makes up store paths that no Nix ever built, with real files, references and NARs. */
export interface ClosureFactory {
  /** References first. Sometimes begins with paths that earlier closures had as well. */
  createClosure(): Promise<PathInfo[]>;
  createPath(references?: readonly PathInfo[]): Promise<PathInfo>;
}

const SHARED_PATHS = 4;

/** @param directory Where the files go. Must be there. */
export function createClosureFactory(
  directory: string,
  random: Random,
  sizes: ClosureSizes = { maxPaths: 6, maxFileBytes: 200_000 },
): ClosureFactory {
  let made = 0;
  const shared: PathInfo[] = [];

  const createPath = async (references: readonly PathInfo[] = []): Promise<PathInfo> => {
    made += 1;
    const name = `path-${made}`;
    const realPath = path.join(directory, name);
    await writeTree(realPath, random, sizes.maxFileBytes);
    const hash = createHash("sha256");
    let narSize = 0;
    for await (const chunk of dumpStorePath(realPath)) {
      hash.update(chunk);
      narSize += chunk.length;
    }
    const storePathHash = encodeNix32(random.bytes(20));
    return {
      storePath: parseStorePath(`/nix/store/${storePathHash}-${name}`),
      narHash: hash.digest("hex"),
      narSize,
      references: references.map(({ storePath }) => storePath.baseName).sort(),
      signatures: [],
      realPath,
    };
  };

  return {
    createPath,
    async createClosure() {
      while (shared.length < SHARED_PATHS) shared.push(await createPath(shared.slice(0, 1)));
      // Shared ones come with what they refer to.
      const paths = random.chance(0.5) ? shared.slice(0, 1 + random.below(SHARED_PATHS)) : [];
      const own = 2 + random.below(sizes.maxPaths - 1);
      for (let count = 0; count < own; count += 1) {
        paths.push(await createPath(paths.filter(() => random.chance(0.4))));
      }
      return paths;
    },
  };
}

/** A file, or a folder of a few: partly text that compresses, partly noise that does not. */
async function writeTree(realPath: string, random: Random, maxFileBytes: number): Promise<void> {
  if (random.chance(0.5)) {
    await writeFile(realPath, createContents(random, maxFileBytes));
    return;
  }
  await mkdir(path.join(realPath, "share"), { recursive: true });
  for (let file = random.below(4); file >= 0; file -= 1) {
    const name = path.join(realPath, random.chance(0.5) ? "share" : ".", `file-${file}`);
    await writeFile(name, createContents(random, maxFileBytes));
  }
}

function createContents(random: Random, maxFileBytes: number): Buffer {
  const length = Math.floor(maxFileBytes ** random.next());
  const noise = random.bytes(Math.ceil(length / 3));
  const text = Buffer.from(`${noise.subarray(0, 64).toString("hex")}\n`);
  return Buffer.concat([noise, Buffer.alloc(length, text)]).subarray(0, length);
}
