import { zstdCompressSync } from "node:zlib";

import { encodeCallHeaders, encodeGrpcBody } from "./load/frames.ts";
import { replay } from "./load/replay.ts";
import { RingBuilder } from "./load/ring.ts";
import {
  actionResult,
  batchUpdate,
  blobOf,
  digest,
  METHODS,
  updateActionResult,
  writeRequests,
} from "./messages.ts";
import { type BlobKind, type Hashes, isMissing, type Scale, sizeOf } from "./population.ts";
import type { Subject } from "./subjects.ts";

const CONNECTIONS = 4;
const BATCH_BYTES = 2 ** 20;

export interface Filling {
  readonly subject: Subject;
  readonly scale: Scale;
  readonly small: Hashes;
  /** Calls at once on each of four connections; default 16. */
  readonly depth?: number;
}

/**
 * Stores everything that is asked for later, over the wire: blobs a thousand or a MiB a call, ActionResults one
 * by one, large blobs by ByteStream.
 */
export async function fill({ subject, scale, small, depth = 16 }: Filling): Promise<void> {
  const queue = new FillQueue(subject, depth);
  for (const [kind, count] of [
    ["small", scale.smallBlobs],
    ["4 KiB", scale.blobs4KiB],
  ] as const) {
    const batch = Math.min(1000, Math.floor(BATCH_BYTES / sizeOf(kind)));
    for (let first = 0; first < count; first += batch * 2) {
      for (const parity of [0, 1]) await queue.addBatch(kind, first, batch, count, parity);
    }
  }
  await queue.flush();
  for (let id = 0; id < scale.actions; id += 1) {
    if (isMissing(id)) continue;
    const request = updateActionResult(
      queue.tenantOf(id).instance,
      digest(blobOf("action", id).hash, sizeOf("action")),
      storedResult(id, scale, small),
    );
    await queue.add(id, METHODS.updateActionResult, [request]);
  }
  await queue.flush();
  for (let id = 0; id < scale.blobs1MiB; id += 1) {
    const { instance } = queue.tenantOf(id);
    const plain = blobOf("1 MiB", id);
    const name = `uploads/${uploadId(id)}/blobs/${plain.hash}/${plain.content.length}`;
    await queue.add(id, METHODS.write, writeRequests(instance, name, plain.content));
    if (subject.name !== "ours") continue;
    const packed = blobOf("1 MiB zstd", id);
    const zstdName = `uploads/${uploadId(id)}/compressed-blobs/zstd/${packed.hash}/${packed.content.length}`;
    const zstd = zstdCompressSync(packed.content);
    await queue.add(id, METHODS.write, writeRequests(instance, zstdName, zstd));
  }
  await queue.flush();
}

/** The result under an action's digest: two small blobs of the same tenant. */
function storedResult(id: number, scale: Scale, small: Hashes): Buffer {
  const first = id % scale.smallBlobs;
  const second = (id + 2) % scale.smallBlobs;
  return actionResult(id, [
    digest(small.of(first), sizeOf("small")),
    digest(small.of(second), sizeOf("small")),
  ]);
}

/** A UUID with a number in it. */
export function uploadId(id: number): string {
  return `00000000-0000-4000-8000-${id.toString(16).padStart(12, "0")}`;
}

class FillQueue {
  readonly #subject: Subject;
  readonly #depth: number;
  #builders = makeBuilders();
  #next = 0;

  constructor(subject: Subject, depth: number) {
    this.#subject = subject;
    this.#depth = depth;
  }

  tenantOf(id: number): Subject["tenants"][number] {
    return this.#subject.tenants[id % 2 === 0 ? 0 : 1];
  }

  async addBatch(
    kind: BlobKind,
    first: number,
    batch: number,
    count: number,
    parity: number,
  ): Promise<void> {
    const blobs = [];
    for (let place = 0; place < batch; place += 1) {
      const id = first + place * 2 + parity;
      if (id < count) blobs.push(blobOf(kind, id));
    }
    if (blobs.length === 0) return;
    const { instance } = this.tenantOf(parity);
    await this.add(parity, METHODS.batchUpdate, [batchUpdate(instance, blobs)]);
  }

  async add(id: number, method: string, messages: readonly Buffer[]): Promise<void> {
    const { token } = this.tenantOf(id);
    const builder = this.#builders[this.#next % CONNECTIONS];
    this.#next += 1;
    builder?.addCall(encodeCallHeaders(method, "bench", token), encodeGrpcBody(messages), {
      minBytes: 5,
      maxBytes: Infinity,
    });
    const sum = this.#builders.reduce((total, each) => total + each.sizeBytes, 0);
    if (sum > CONNECTIONS * this.#depth * BATCH_BYTES) await this.flush();
  }

  async flush(): Promise<void> {
    const rings = this.#builders.filter(({ sizeBytes }) => sizeBytes > 0).map((it) => it.build());
    this.#builders = makeBuilders();
    if (rings.length === 0) return;
    const { wrong, firstWrong } = await replay(this.#subject.target, {
      protocol: "h2c",
      rings,
      depth: this.#depth,
      measureMs: undefined,
    });
    if (wrong > 0) throw new Error(`${this.#subject.name} was not filled: ${firstWrong}`);
  }
}

function makeBuilders(): RingBuilder[] {
  return Array.from({ length: CONNECTIONS }, () => new RingBuilder());
}
