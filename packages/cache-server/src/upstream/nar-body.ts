import { UpstreamFault } from "./upstream-fault.ts";
import type { UpstreamResponse } from "./upstream-http.ts";

/** A NAR file as an upstream sends it. */
export interface NarBody {
  /** As the upstream says, or as its narinfo does. */
  readonly sizeBytes: number | undefined;
  /** Exactly so many bytes, or an {@link UpstreamFault}: `cut`, `stalled`, `length`, `too-large`. */
  readonly chunks: AsyncIterable<Buffer>;
}

export interface NarBodyOptions {
  /** Asks for the whole file, or for the rest of it from a byte on. */
  readonly open: (headers: Readonly<Record<string, string>>) => Promise<UpstreamResponse>;
  /** What the narinfo says. */
  readonly fileSize: number | undefined;
  readonly maxBytes: number;
  /** How long nothing may come, or next to nothing. */
  readonly idleTimeoutMs: number;
  readonly signal: AbortSignal;
}

/** Who sends less than this in a second of our waiting, on average, does not mean to end. */
const MIN_BYTES_PER_SECOND = 1024;
/** After a cut that brought nothing new, asking again is of no use. */
const MAX_RESUMES = 5;

/**
 * The body of an answer to a whole GET, continued with ranges when its connection breaks.
 *
 * @throws {UpstreamFault} `length`, `too-large` or `encoding` by its head alone.
 */
export function readNarBody(first: UpstreamResponse, options: NarBodyOptions): NarBody {
  const { fileSize, maxBytes } = options;
  const refuse = (fault: UpstreamFault): never => {
    first.body.destroy();
    throw fault;
  };
  const encoding = first.header("content-encoding");
  if (encoding !== undefined && encoding !== "identity") {
    refuse(new UpstreamFault("encoding", "a NAR with a content encoding that nobody asked for"));
  }
  const length = lengthOf(first);
  if (length !== undefined && fileSize !== undefined && length !== fileSize) {
    refuse(new UpstreamFault("length", `a file of ${length} bytes where ${fileSize} were said`));
  }
  const sizeBytes = fileSize ?? length;
  if (sizeBytes !== undefined && sizeBytes > maxBytes) {
    refuse(new UpstreamFault("too-large", `a file of ${sizeBytes} bytes, more than ${maxBytes}`));
  }
  return { sizeBytes, chunks: readWithResumes(first, sizeBytes, options) };
}

async function* readWithResumes(
  first: UpstreamResponse,
  sizeBytes: number | undefined,
  options: NarBodyOptions,
): AsyncGenerator<Buffer> {
  const limit = sizeBytes ?? options.maxBytes;
  const hasRanges = /\bbytes\b/.test(first.header("accept-ranges") ?? "");
  const tag = first.header("etag");
  let received = 0;
  let response = first;
  for (let resumes = 0; ; resumes += 1) {
    const before = received;
    let broken: unknown;
    try {
      for await (const chunk of withIdleTimeout(response, options)) {
        received += chunk.length;
        if (received > limit) throw endless(sizeBytes, options.maxBytes);
        yield chunk;
      }
      if (sizeBytes === undefined || received === sizeBytes) return;
    } catch (error) {
      // Another connection may do better than one that has come to a stop.
      if (error instanceof UpstreamFault && error.reason !== "stalled") throw error;
      options.signal.throwIfAborted();
      broken = error;
    } finally {
      response.body.destroy();
    }
    const mayResume =
      hasRanges && sizeBytes !== undefined && received > before && resumes < MAX_RESUMES;
    if (!mayResume && broken instanceof UpstreamFault) throw broken;
    if (!mayResume) {
      const of = sizeBytes === undefined ? "" : ` of ${sizeBytes}`;
      throw new UpstreamFault("cut", `the body ended after ${received}${of} bytes`, broken);
    }
    response = await options.open({
      range: `bytes=${received}-`,
      ...(tag === undefined || tag.startsWith("W/") ? {} : { "if-range": tag }),
    });
    const range = response.header("content-range") ?? "";
    if (response.status !== 206 || range !== `bytes ${received}-${sizeBytes - 1}/${sizeBytes}`) {
      response.body.destroy();
      throw new UpstreamFault("cut", `the body ended after ${received} bytes, and has no rest`);
    }
  }
}

function endless(sizeBytes: number | undefined, maxBytes: number): UpstreamFault {
  return sizeBytes === undefined
    ? new UpstreamFault("too-large", `more than the ${maxBytes} bytes that the NAR can need`)
    : new UpstreamFault("length", `more than the ${sizeBytes} bytes that were said`);
}

/** Counts only while we wait: nobody is late because our disk is slow. */
async function* withIdleTimeout(
  { body }: UpstreamResponse,
  { idleTimeoutMs }: NarBodyOptions,
): AsyncGenerator<Buffer> {
  const chunks = (body as AsyncIterable<Buffer>)[Symbol.asyncIterator]();
  const minBytes = (MIN_BYTES_PER_SECOND * idleTimeoutMs) / 1000;
  let waitedMs = 0;
  let cameBytes = 0;
  for (;;) {
    const begin = performance.now();
    // Not a race against one long promise: that would keep every chunk until the end.
    const { promise, resolve, reject } = Promise.withResolvers<IteratorResult<Buffer>>();
    const timer = setTimeout(() => {
      reject(new UpstreamFault("stalled", `nothing came for ${idleTimeoutMs} ms`));
    }, idleTimeoutMs);
    chunks.next().then(resolve, reject);
    let next: IteratorResult<Buffer>;
    try {
      next = await promise;
    } finally {
      clearTimeout(timer);
    }
    // Its last bytes may come as late as they like.
    if (next.done === true) return;
    if (waitedMs >= idleTimeoutMs) {
      if (cameBytes < minBytes) {
        throw new UpstreamFault("stalled", `${cameBytes} bytes came in ${Math.round(waitedMs)} ms`);
      }
      waitedMs = 0;
      cameBytes = 0;
    }
    waitedMs += performance.now() - begin;
    cameBytes += next.value.length;
    yield next.value;
  }
}

function lengthOf({ header }: UpstreamResponse): number | undefined {
  const text = header("content-length");
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}
