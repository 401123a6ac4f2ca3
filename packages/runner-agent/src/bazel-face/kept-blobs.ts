import { createHash } from "node:crypto";
import { createReadStream, createWriteStream, readFileSync, type WriteStream } from "node:fs";
import { mkdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { describeError, type Logger } from "@glorious/core";
import { GRPC_STATUS } from "@glorious/grpc";
import {
  ActionResultNeeds,
  ByteStream,
  DigestList,
  formatReadResourceName,
  methodPath,
  readActionResult,
  ReadRequestSchema,
  ReadResponseSchema,
  readTree,
} from "@glorious/reapi";

import type { UpstreamConnections } from "./upstream-connections.ts";

/**
 * Blobs that a build was told of and has not asked for yet, fetched ahead so that it still gets them when the cache is
 * gone: a build without the bytes cannot go on without them.
 */
export interface KeptBlobs extends AsyncDisposable {
  /** An ActionResult went to the build: what it names may be asked for later. */
  promise(actionResult: Uint8Array, instanceName: string): void;
  /** The build has got the whole blob; when it got it as often as it was promised, it needs no keeping. */
  deliver(hash: string): void;
  has(hash: string, sizeBytes: number): boolean;
  /** The whole content at once, `undefined` when it is not kept. For small blobs. */
  readWhole(hash: string, sizeBytes: number): Buffer | undefined;
  /** The content from an offset on, `undefined` when it is not kept. */
  read(hash: string, sizeBytes: number, offset: number): AsyncIterable<Buffer> | undefined;
  /** The same by its hash alone. */
  findBySum(
    hash: string,
  ): { readonly sizeBytes: number; readonly content: AsyncIterable<Buffer> } | undefined;
  /** What is kept, and what the bound left no room for. */
  readonly figures: {
    readonly blobs: number;
    readonly bytes: number;
    readonly unkeptBlobs: number;
  };
}

/** Options of {@link createKeptBlobs}. */
export interface KeptBlobsOptions {
  readonly directory: string;
  /** The most that is kept; beyond it blobs are not fetched. */
  readonly maxBytes: number;
  readonly upstream: UpstreamConnections;
  readonly token: () => string | undefined;
  /** Whether the cache may be asked now. */
  readonly mayAsk: () => boolean;
  readonly logger: Logger;
}

interface Entry {
  readonly hash: string;
  readonly sizeBytes: number;
  readonly instanceName: string;
  readonly isTree: boolean;
  /** Of its own, so that one that is given up does not meet a later one of the same blob. */
  readonly file: string;
  /** How often it was promised and not read since. */
  promises: number;
  state: "waiting" | "fetching" | "kept" | "gone";
}

const CONCURRENCY = 8;
const FETCH_TIMEOUT_MS = 120_000;
/** A tree is read into memory to find what is in it. */
const MAX_TREE_BYTES = 16 * 1024 * 1024;
/** How often the queue is looked at while the cache may not be asked. */
const PAUSE_MS = 500;
const READ_PATH = methodPath(ByteStream, "read");

export async function createKeptBlobs(options: KeptBlobsOptions): Promise<KeptBlobs> {
  await mkdir(options.directory, { recursive: true, mode: 0o700 });
  return new SpooledBlobs(options);
}

class SpooledBlobs implements KeptBlobs {
  readonly #options: KeptBlobsOptions;
  readonly #entries = new Map<string, Entry>();
  readonly #queue: Entry[] = [];
  readonly #running = new Set<Promise<void>>();
  #usedBytes = 0;
  #keptBlobs = 0;
  #unkeptBlobs = 0;
  #files = 0;
  #isClosed = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: KeptBlobsOptions) {
    this.#options = options;
  }

  get figures(): KeptBlobs["figures"] {
    return { blobs: this.#keptBlobs, bytes: this.#usedBytes, unkeptBlobs: this.#unkeptBlobs };
  }

  promise(actionResult: Uint8Array, instanceName: string): void {
    const needs = new ActionResultNeeds();
    try {
      readActionResult(actionResult, needs);
    } catch (error) {
      this.#options.logger.warn("an ActionResult cannot be read", { error: describeError(error) });
      return;
    }
    const trees = new Set<string>();
    for (let index = 0; index < needs.trees.length; index++) trees.add(needs.trees.hash(index));
    this.#addAll(needs.blobs, instanceName, trees);
    this.#pump();
  }

  deliver(hash: string): void {
    const entry = this.#entries.get(hash);
    // What is in a tree is still to be found.
    if (entry === undefined || entry.isTree || entry.state === "gone") return;
    entry.promises -= 1;
    if (entry.promises > 0) return;
    const before = entry.state;
    entry.state = "gone";
    // A later hit promises it anew.
    this.#entries.delete(hash);
    this.#usedBytes -= entry.sizeBytes;
    if (before === "kept") {
      this.#keptBlobs -= 1;
      void rm(entry.file, { force: true });
    }
    this.#pump();
  }

  has(hash: string, sizeBytes: number): boolean {
    const entry = this.#entries.get(hash);
    return entry?.state === "kept" && entry.sizeBytes === sizeBytes;
  }

  readWhole(hash: string, sizeBytes: number): Buffer | undefined {
    return this.has(hash, sizeBytes) ? readFileSync(this.#fileOf(hash)) : undefined;
  }

  read(hash: string, sizeBytes: number, offset: number): AsyncIterable<Buffer> | undefined {
    if (!this.has(hash, sizeBytes)) return undefined;
    return createReadStream(this.#fileOf(hash), { start: offset, highWaterMark: 256 * 1024 });
  }

  findBySum(hash: string): ReturnType<KeptBlobs["findBySum"]> {
    const sizeBytes = this.#entries.get(hash)?.sizeBytes ?? 0;
    const content = this.read(hash, sizeBytes, 0);
    return content && { sizeBytes, content };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    await Promise.all(this.#running);
    await rm(this.#options.directory, { recursive: true, force: true });
  }

  #addAll(digests: DigestList, instanceName: string, trees: ReadonlySet<string>): void {
    for (let index = 0; index < digests.length; index++) {
      if (digests.isEmptyBlob(index)) continue;
      const hash = digests.hash(index);
      const known = this.#entries.get(hash);
      if (known !== undefined) {
        known.promises += 1;
        continue;
      }
      const sizeBytes = digests.sizeBytes(index);
      if (this.#usedBytes + sizeBytes > this.#options.maxBytes) {
        this.#unkeptBlobs += 1;
        continue;
      }
      this.#usedBytes += sizeBytes;
      const isTree = trees.has(hash);
      this.#files += 1;
      const file = join(this.#options.directory, `${this.#files}-${hash}`);
      const entry: Entry = {
        ...{ hash, sizeBytes, instanceName, isTree, file },
        promises: 1,
        state: "waiting",
      };
      this.#entries.set(hash, entry);
      this.#queue.push(entry);
    }
  }

  #pump(): void {
    if (this.#isClosed) return;
    if (!this.#options.mayAsk()) {
      if (this.#queue.length === 0) return;
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#pump(), PAUSE_MS);
      this.#timer.unref();
      return;
    }
    while (this.#running.size < CONCURRENCY) {
      const entry = this.#queue.shift();
      if (entry === undefined) return;
      if (entry.state !== "waiting") continue;
      const fetching = this.#fetch(entry).finally(() => {
        this.#running.delete(fetching);
        this.#pump();
      });
      this.#running.add(fetching);
    }
  }

  async #fetch(entry: Entry): Promise<void> {
    entry.state = "fetching";
    const { file } = entry;
    try {
      await this.#download(entry, `${file}.part`);
      await rename(`${file}.part`, file);
    } catch (error) {
      await rm(`${file}.part`, { force: true });
      this.#forget(entry);
      this.#options.logger.debug("a blob was not fetched ahead", {
        hash: entry.hash,
        error: describeError(error),
      });
      return;
    }
    // Delivered, or closed, meanwhile.
    if ((entry.state as Entry["state"]) === "gone") {
      await rm(file, { force: true });
      return;
    }
    entry.state = "kept";
    this.#keptBlobs += 1;
    if (entry.isTree && entry.sizeBytes <= MAX_TREE_BYTES) await this.#addTree(entry, file);
  }

  async #addTree({ instanceName }: Entry, file: string): Promise<void> {
    const files = new DigestList();
    try {
      readTree(await readFile(file), files);
    } catch (error) {
      this.#options.logger.warn("a tree cannot be read", { error: describeError(error) });
    }
    this.#addAll(files, instanceName, new Set());
  }

  #forget(entry: Entry): void {
    if (entry.state !== "gone") this.#usedBytes -= entry.sizeBytes;
    entry.state = "gone";
    // Another ActionResult may name it, when the cache is well again.
    if (this.#entries.get(entry.hash) === entry) this.#entries.delete(entry.hash);
  }

  /** @throws when the cache does not give the blob, or gives another. */
  async #download({ hash, sizeBytes, instanceName }: Entry, file: string): Promise<void> {
    const output = createWriteStream(file, { mode: 0o600 });
    const sum = createHash("sha256");
    let received = 0;
    try {
      await this.#stream(
        formatReadResourceName({ instanceName, hash, sizeBytes, compressor: "identity" }),
        (data) => {
          received += data.length;
          sum.update(data);
          return output.write(data);
        },
        output,
      );
    } finally {
      await new Promise<void>((resolve) => {
        output.on("close", resolve);
        output.end(() => output.destroy());
      });
    }
    if (received !== sizeBytes || sum.digest("hex") !== hash) throw new Error("it is another blob");
  }

  #stream(
    resourceName: string,
    write: (data: Uint8Array) => boolean,
    output: WriteStream,
  ): Promise<void> {
    const { upstream, token } = this.#options;
    const secret = token();
    return new Promise((resolve, reject) => {
      let waiting = 0;
      const call = upstream.startCall(
        {
          path: READ_PATH,
          metadata: secret === undefined ? [] : [["authorization", `Bearer ${secret}`]],
          timeoutMs: FETCH_TIMEOUT_MS,
        },
        {
          manualConsume: true,
          onMessage(up, message) {
            if (write(fromBinary(ReadResponseSchema, message).data)) up.consumed();
            else waiting += 1;
          },
          onEnd(_, { status, message }) {
            if (status === GRPC_STATUS.OK) resolve();
            else reject(new Error(`status ${status}: ${message}`));
          },
        },
      );
      if (call === undefined) {
        reject(new Error("too many calls are open"));
        return;
      }
      output.on("drain", () => {
        call.consumed(waiting);
        waiting = 0;
      });
      output.on("error", (error) => {
        call.cancel();
        reject(error);
      });
      call.sendMessage(toBinary(ReadRequestSchema, create(ReadRequestSchema, { resourceName })));
      call.halfClose();
    });
  }

  #fileOf(hash: string): string {
    return this.#entries.get(hash)?.file ?? "";
  }
}
