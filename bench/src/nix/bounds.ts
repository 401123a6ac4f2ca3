import { createHash } from "node:crypto";
import { open, rm } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import path from "node:path";
import { Worker } from "node:worker_threads";
import { constants, zstdCompressSync, zstdDecompressSync } from "node:zlib";

/** What this machine can do, bytes per second, measured in the same run. */
export interface Bounds {
  /** Of one core. */
  readonly sha256: number;
  /** NAR bytes that one core compresses at level 3. */
  readonly zstd: number;
  /** NAR bytes that one core gets out of zstd. */
  readonly unzstd: number;
  /** Bytes of zstd per byte of NAR. */
  readonly zstdRatio: number;
  readonly diskWrite: number;
  readonly loopback: number;
}

const PIECE_BYTES = 2 ** 20;
const FRAME_BYTES = 8 * 2 ** 20;

export async function measureBounds(sample: Buffer, directory: string): Promise<Bounds> {
  const frames = cut(sample, FRAME_BYTES);
  const encoded = frames.map(compress);
  const encodedBytes = encoded.reduce((sum, frame) => sum + frame.length, 0);
  return {
    sha256: fastest(sample.length, () => {
      const hash = createHash("sha256");
      for (const piece of cut(sample, PIECE_BYTES)) hash.update(piece);
      hash.digest();
    }),
    zstd: fastest(sample.length, () => frames.forEach(compress)),
    unzstd: fastest(sample.length, () => encoded.forEach((frame) => zstdDecompressSync(frame))),
    zstdRatio: encodedBytes / sample.length,
    diskWrite: await measureDisk(sample, path.join(directory, "disk.probe")),
    loopback: await measureLoopback(),
  };
}

/** Facts of a cold push. */
export interface PushVolume {
  readonly narBytes: number;
  readonly storedBytes: number;
  readonly cores: number;
}

/**
 * The least time of a cold push with client and server on the same cores. Of processor work nothing can be left
 * out: the client hashes and compresses, the server decodes, hashes the NAR, and hashes what it stores.
 */
export function pushBound(
  bounds: Bounds,
  { narBytes, storedBytes, cores }: PushVolume,
): {
  readonly processor: number;
  readonly disk: number;
  readonly client: number;
  readonly seconds: number;
} {
  const client = (narBytes / bounds.sha256 + narBytes / bounds.zstd) / cores;
  const server = (narBytes / bounds.unzstd + (narBytes + storedBytes) / bounds.sha256) / cores;
  const disk = storedBytes / bounds.diskWrite;
  const processor = client + server;
  return {
    processor,
    disk,
    client,
    seconds: Math.max(processor, disk, storedBytes / bounds.loopback),
  };
}

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

function fastest(bytes: number, work: () => void): number {
  let best = Infinity;
  for (let round = 0; round < 3; round += 1) {
    const startedMs = performance.now();
    work();
    best = Math.min(best, performance.now() - startedMs);
  }
  return bytes / (best / 1000);
}

async function measureDisk(sample: Buffer, file: string): Promise<number> {
  let best = Infinity;
  for (let round = 0; round < 3; round += 1) {
    const startedMs = performance.now();
    const handle = await open(file, "w");
    for (const piece of cut(sample, PIECE_BYTES)) await handle.write(piece);
    await handle.sync();
    await handle.close();
    best = Math.min(best, performance.now() - startedMs);
    await rm(file);
  }
  return sample.length / (best / 1000);
}

/** Bytes from one thread to another through the loopback interface. */
async function measureLoopback(): Promise<number> {
  const totalBytes = 512 * 2 ** 20;
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const worker = new Worker(
    `const { connect } = require("node:net"); const { workerData } = require("node:worker_threads");
     const socket = connect(workerData.port, "127.0.0.1"); const piece = Buffer.alloc(1 << 20); let left = workerData.count;
     const send = () => { while (left-- > 0) if (!socket.write(piece)) return void socket.once("drain", send); socket.end(); }; send();`,
    { eval: true, workerData: { port, count: totalBytes / PIECE_BYTES } },
  );
  const received = Promise.withResolvers<number>();
  server.on("connection", (socket) => {
    const startedMs = performance.now();
    socket.on("data", () => {});
    socket.on("end", () => received.resolve(totalBytes / ((performance.now() - startedMs) / 1000)));
    socket.on("error", received.reject);
  });
  worker.on("error", received.reject);
  const rate = await received.promise;
  await worker.terminate();
  server.close();
  return rate;
}
