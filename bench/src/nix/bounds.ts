import { open, rm } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { availableParallelism } from "node:os";
import path from "node:path";
import { Worker } from "node:worker_threads";

/** What this machine can do, bytes per second, measured in the same run. */
export interface Bounds {
  /** Of one core, while all are at work. */
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

/** Processor rates are taken with every core at work, as cores that share a chip or a host slow each other down. */
export async function measureBounds(sample: Buffer, directory: string): Promise<Bounds> {
  const { bytes, ratio } = await measureCores(sample);
  return {
    ...bytes,
    zstdRatio: ratio,
    diskWrite: await measureDisk(sample, path.join(directory, "disk.probe")),
    loopback: await measureLoopback(),
  };
}

interface CoreRates {
  readonly bytes: Pick<Bounds, "sha256" | "zstd" | "unzstd">;
  readonly ratio: number;
}

/** The rates of one core while all others do the same. */
async function measureCores(sample: Buffer): Promise<CoreRates> {
  const shared = new SharedArrayBuffer(sample.length);
  sample.copy(Buffer.from(shared));
  const all = await Promise.all(
    Array.from(
      { length: availableParallelism() },
      () =>
        new Promise<CoreRates>((resolve, reject) => {
          const worker = new Worker(new URL("./core-rates.ts", import.meta.url), {
            workerData: shared,
          });
          worker.once("message", resolve);
          worker.once("error", reject);
        }),
    ),
  );
  const mean = (pick: (rates: CoreRates) => number): number =>
    all.reduce((sum, rates) => sum + pick(rates), 0) / all.length;
  return {
    bytes: {
      sha256: mean(({ bytes }) => bytes.sha256),
      zstd: mean(({ bytes }) => bytes.zstd),
      unzstd: mean(({ bytes }) => bytes.unzstd),
    },
    ratio: mean(({ ratio }) => ratio),
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
