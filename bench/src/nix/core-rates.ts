import { createHash } from "node:crypto";
import { parentPort, workerData } from "node:worker_threads";
import { constants, zstdCompressSync, zstdDecompressSync } from "node:zlib";

// Measures one core; one of these runs on each.
const shared: SharedArrayBuffer = workerData;
const sample = Buffer.from(shared);
const PIECE_BYTES = 2 ** 20;
const FRAME_BYTES = 8 * 2 ** 20;

function cut(bytes: Buffer, pieceBytes: number): Buffer[] {
  const count = Math.ceil(bytes.length / pieceBytes);
  return Array.from({ length: count }, (_, at) =>
    bytes.subarray(at * pieceBytes, (at + 1) * pieceBytes),
  );
}

function compress(frame: Buffer): Buffer {
  return zstdCompressSync(frame, {
    pledgedSrcSize: frame.length,
    params: { [constants.ZSTD_c_compressionLevel]: 3 },
  });
}

function fastest(work: () => void): number {
  let best = Infinity;
  for (let round = 0; round < 4; round += 1) {
    const startedMs = performance.now();
    work();
    best = Math.min(best, performance.now() - startedMs);
  }
  return sample.length / (best / 1000);
}

const frames = cut(sample, FRAME_BYTES);
const encoded = frames.map(compress);
const encodedBytes = encoded.reduce((sum, frame) => sum + frame.length, 0);
const bytes = {
  sha256: fastest(() => {
    const hash = createHash("sha256");
    for (const piece of cut(sample, PIECE_BYTES)) hash.update(piece);
    hash.digest();
  }),
  zstd: fastest(() => frames.forEach((frame) => compress(frame))),
  unzstd: fastest(() => encoded.forEach((frame) => zstdDecompressSync(frame))),
};
parentPort?.postMessage({ bytes, ratio: encodedBytes / sample.length }, []);
