import { createHash } from "node:crypto";

import type { CacheIndex, NewPath, ObjectRecord } from "../src/index/cache-index.ts";

const CLOSURE = 2000;
export const CREATED_AT_MS = 1_700_000_000_000;
export const DAY_MS: number = 24 * 3600 * 1000;

const NIX32 = "0123456789abcdfghijklmnpqrsvwxyz";

function bytesOf(kind: string, at: number): Buffer {
  return createHash("sha256").update(`${kind} ${at}`).digest();
}

export function hashOf(at: number): string {
  return Array.from(bytesOf("path", at), (byte) => NIX32[byte % 32]).join("");
}

function nameOf(at: number): string {
  return `${hashOf(at)}-python3.12-package-${at % 9973}-${at % 17}.${at % 10}.${at % 7}`;
}

/** A number below `bound`, the same for the same arguments. */
export function pick(kind: string, at: number, bound: number): number {
  return bytesOf(kind, at).readUInt32BE() % bound;
}

/** Itself now and then, some of 300 that everybody needs, some of its closure: six on average. */
function referencesOf(at: number): number[] {
  const references = new Set<number>();
  if (pick("self", at, 3) === 0) references.add(at);
  for (let round = 0; round < pick("many", at, 6); round += 1) {
    references.add(Math.min(at, pick(`popular ${round}`, at, 1 + pick(`rank ${round}`, at, 300))));
  }
  for (let round = 0; round < pick("few", at, 7); round += 1) {
    references.add(Math.max(0, at - pick(`near ${round}`, at, 400)));
  }
  return [...references].sort((a, b) => a - b);
}

export function objectOf(at: number): ObjectRecord {
  return {
    fileHash: bytesOf("file", at).toString("hex"),
    fileSize: 10_000 + pick("size", at, 1_000_000),
    compression: "zstd",
    narHash: bytesOf("nar", at).toString("hex"),
    narSize: 40_000 + pick("size", at, 4_000_000),
  };
}

/** @param isWhole Whether all paths before it are there as well. */
export function pathOf(at: number, isWhole = true): NewPath {
  const { fileHash, fileSize, narHash, narSize } = objectOf(at);
  const references = referencesOf(at);
  const storePath = `/nix/store/${nameOf(at)}`;
  const names = references.map(nameOf);
  const signature = `main-1:${bytesOf("signature", at).toString("base64")}${bytesOf("s2", at).toString("base64")}`;
  const deriver = `${hashOf(at + 0.5)}-${nameOf(at).slice(33)}.drv`;
  const narInfo = [
    `StorePath: ${storePath}`,
    `URL: nar/${fileHash.slice(0, 52)}.nar.zst`,
    "Compression: zstd",
    `FileHash: sha256:${fileHash.slice(0, 52)}`,
    `FileSize: ${fileSize}`,
    `NarHash: sha256:${narHash.slice(0, 52)}`,
    `NarSize: ${narSize}`,
    `References: ${names.join(" ")}`,
    `Deriver: ${deriver}`,
    `Sig: ${signature}`,
    "",
  ].join("\n");
  return {
    storePathHash: hashOf(at),
    storePath,
    narHash,
    fileHash,
    references: names,
    deriver,
    ca: undefined,
    system: undefined,
    signatures: [],
    narInfo,
    keyGeneration: 0,
    createdAtMs: CREATED_AT_MS + at,
    createdBy: "ci",
    requiredReferences: isWhole ? references.map(hashOf) : [],
  };
}

export function report(what: string, figure: string): void {
  process.stdout.write(`${what.padEnd(66)} ${figure}\n`);
}

export function format(ms: number): string {
  return ms < 1 ? `${(ms * 1000).toFixed(1)} µs` : `${ms.toFixed(1)} ms`;
}

/** Runs it so often and prints the median, the 99th percentile and the longest. */
export async function measure(
  what: string,
  times: number,
  run: (round: number) => Promise<unknown>,
): Promise<void> {
  const durations: number[] = [];
  for (let round = 0; round < times; round += 1) {
    const begin = performance.now();
    await run(round);
    durations.push(performance.now() - begin);
  }
  durations.sort((a, b) => a - b);
  const at = (share: number): string =>
    format(durations[Math.min(times - 1, Math.floor(times * share))] ?? 0);
  report(what, `p50 ${at(0.5)}   p99 ${at(0.99)}   max ${at(1)}   (${times} times)`);
}

/** Pushes the paths from one number to another in closures. */
export async function fill(
  index: CacheIndex,
  viewId: number,
  {
    from,
    to,
    isWhole = true,
  }: { readonly from: number; readonly to: number; readonly isWhole?: boolean },
): Promise<void> {
  for (let begin = from; begin < to; begin += CLOSURE) {
    const closure = Array.from({ length: Math.min(CLOSURE, to - begin) }, (_, at) => begin + at);
    const objects = closure.map(objectOf);
    await Promise.all(objects.map((object) => index.reserveObject(object, CREATED_AT_MS)));
    await Promise.all(
      objects.map(({ narHash, fileHash }) =>
        index.holdNar({ viewId, narHash, fileHash, expiresAtMs: CREATED_AT_MS + DAY_MS }),
      ),
    );
    const result = await index.commitPaths(
      viewId,
      closure.map((at) => pathOf(at, isWhole)),
    );
    if (result.kind !== "committed") throw new Error(`The closure at ${begin} is incomplete`);
  }
}

export async function makeView(index: CacheIndex): Promise<number> {
  const key = { name: "main-1", secretKey: "s", publicKey: "p", createdAtMs: CREATED_AT_MS };
  const view = await index.createView(
    {
      name: "main",
      isPublic: false,
      storeDir: "/nix/store",
      priority: 41,
      upstreamCacheKeyNames: [],
      retentionSeconds: undefined,
      maxSizeBytes: undefined,
      compressionLevel: undefined,
      createdAtMs: CREATED_AT_MS,
    },
    key,
  );
  return view.id;
}
