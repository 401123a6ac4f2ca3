import { createHash } from "node:crypto";

import { CacheError } from "@glorious/core";

import { dumpForCopying, dumpStorePath } from "./dump-store-path.ts";
import type { PathInfo } from "./path-info.ts";

/** Options of {@link readCheckedNar}. */
export interface CheckedNarOptions {
  /** Told the bytes read so far. */
  readonly onRead?: ((narBytes: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
  /** The consumer copies each chunk before it asks for the next, so buffers can be used again. */
  readonly consumerCopies?: boolean | undefined;
}

/**
 * Reads a path's NAR from disk and holds it against what the Nix database says. The last chunk is kept
 * back until hash and size are known to be right, so a damaged path never leaves as a whole body.
 *
 * @throws {CacheError} `CORRUPT` when they differ; whatever {@link dumpStorePath} throws.
 */
export async function* readCheckedNar(
  path: PathInfo,
  options: CheckedNarOptions = {},
): AsyncGenerator<Buffer, void, undefined> {
  const { onRead, signal } = options;
  const dump = options.consumerCopies === true ? dumpForCopying : dumpStorePath;
  const hash = createHash("sha256");
  let narBytes = 0;
  let held: Buffer | undefined;
  for await (const chunk of dump(path.realPath, { signal })) {
    hash.update(chunk);
    narBytes += chunk.length;
    if (narBytes > path.narSize) {
      throw damaged(path, `more than the ${path.narSize} bytes`);
    }
    onRead?.(narBytes);
    if (held !== undefined) yield held;
    held = chunk;
  }
  if (narBytes !== path.narSize) {
    throw damaged(path, `${narBytes} bytes instead of the ${path.narSize}`);
  }
  const narHash = hash.digest("hex");
  if (narHash !== path.narHash) {
    throw damaged(path, `the hash sha256:${narHash} instead of the sha256:${path.narHash}`);
  }
  if (held !== undefined) yield held;
}

function damaged({ storePath: { path } }: PathInfo, found: string): CacheError {
  return new CacheError(
    "CORRUPT",
    `${path} is damaged on this machine: its NAR has ${found} that Nix recorded`,
    { hint: `Repair it with "nix-store --repair-path ${path}", or delete and rebuild it.` },
  );
}
