import { CacheError } from "@glorious/core";

/** The head of an answer in HTTP/1. */
export interface ResponseHead {
  readonly status: number;
  /** By their names in lowercase; of several the first. */
  readonly headers: ReadonlyMap<string, string>;
}

/** Takes one answer apart as its bytes come. A state machine without I/O. */
export interface ResponseReader {
  /**
   * Takes the next bytes, and gives those of the body among them, in the very memory: what stands between the chunks of
   * a chunked body is overwritten.
   *
   * @throws {CacheError} `CORRUPT` for what is no such answer.
   */
  read(bytes: Buffer): Buffer;
  /** The connection has ended. @throws {CacheError} `TRUNCATED` when more was to come. */
  end(): void;
  readonly head: ResponseHead | undefined;
  readonly isComplete: boolean;
  /** Whether the connection is good for another request once this answer is complete. */
  readonly isReusable: boolean;
}

const MAX_HEAD_BYTES = 64 * 1024;
const MAX_LINE_BYTES = 4096;
const NO_BYTES = Buffer.alloc(0);
const [CR, LF] = [13, 10];

/** Where the reader stands: in lines, in bytes that are counted, or in bytes up to the connection's end. */
type Place =
  | "head"
  | "counted"
  | "chunk size"
  | "chunk"
  | "chunk end"
  | "trailer"
  | "rest"
  | "done";

/** @see RFC 9112, sections 4 to 7. */
export function createResponseReader(): ResponseReader {
  let place: Place = "head";
  let head: ResponseHead | undefined;
  let isReusable = false;
  let left = 0;
  let line = NO_BYTES;

  const startBody = (given: ResponseHead): void => {
    head = given;
    const { status, headers } = given;
    const length = headers.get("content-length");
    isReusable = !/\bclose\b/i.test(headers.get("connection") ?? "");
    if (status === 204 || status === 304) place = "done";
    else if (/\bchunked\s*$/i.test(headers.get("transfer-encoding") ?? "")) place = "chunk size";
    else if (length === undefined) {
      place = "rest";
      isReusable = false;
    } else {
      if (!/^\d{1,15}$/.test(length)) throw corrupt("a Content-Length that is no number");
      left = Number(length);
      place = left === 0 ? "done" : "counted";
    }
  };

  /** One line has come, without its end. */
  const takeLine = (text: string): void => {
    if (place === "chunk size") {
      const [, size] = /^([0-9a-f]{1,12})\s*(?:;.*)?$/i.exec(text) ?? [];
      if (size === undefined) throw corrupt("a chunk without a size");
      left = Number.parseInt(size, 16);
      place = left === 0 ? "trailer" : "chunk";
    } else if (place === "chunk end") {
      if (text !== "") throw corrupt("a chunk that is longer than its size");
      place = "chunk size";
    } else if (text === "") place = "done";
  };

  /** Collects a line, or the head; where it ends in the bytes, `undefined` when it goes on. */
  const collect = (bytes: Buffer, at: number): number | undefined => {
    const isHead = place === "head";
    const before = line.length;
    const seen = before === 0 ? bytes.subarray(at) : Buffer.concat([line, bytes.subarray(at)]);
    const found = isHead ? seen.indexOf("\r\n\r\n") : seen.indexOf(LF);
    if (found === -1) {
      if (seen.length > (isHead ? MAX_HEAD_BYTES : MAX_LINE_BYTES)) {
        throw corrupt("a line without an end");
      }
      // Not the reader's memory.
      line = Buffer.from(seen);
      return undefined;
    }
    line = NO_BYTES;
    if (isHead) {
      const given = parseHead(seen.toString("latin1", 0, found));
      // What a server says before its answer.
      if (given.status >= 200) startBody(given);
      return at + found + 4 - before;
    }
    const end = found > 0 && seen[found - 1] === CR ? found - 1 : found;
    takeLine(seen.toString("latin1", 0, end));
    return at + found + 1 - before;
  };

  return {
    read(bytes) {
      let at = 0;
      let [start, end] = [0, 0];
      while (at < bytes.length) {
        if (place === "done") throw corrupt("more than the answer");
        if (place === "rest") return bytes.subarray(at);
        if (place !== "counted" && place !== "chunk") {
          const next = collect(bytes, at);
          if (next === undefined) break;
          at = next;
          continue;
        }
        const count = Math.min(left, bytes.length - at);
        if (end === 0) [start, end] = [at, at + count];
        else {
          bytes.copyWithin(end, at, at + count);
          end += count;
        }
        at += count;
        left -= count;
        if (left === 0) place = place === "chunk" ? "chunk end" : "done";
      }
      return bytes.subarray(start, end);
    },
    end() {
      if (place === "rest") place = "done";
      if (place !== "done") throw new CacheError("TRUNCATED", "The connection ended early");
    },
    get head() {
      return head;
    },
    get isComplete() {
      return place === "done";
    },
    get isReusable() {
      return isReusable;
    },
  };
}

function parseHead(text: string): ResponseHead {
  const [first = "", ...lines] = text.split("\r\n");
  const [, status] = /^HTTP\/1\.[01] ([1-5]\d\d)(?: |$)/.exec(first) ?? [];
  if (status === undefined) throw corrupt("no status line");
  const headers = new Map<string, string>();
  for (const each of lines) {
    const colon = each.indexOf(":");
    if (colon <= 0) throw corrupt("a header without a name");
    const name = each.slice(0, colon).toLowerCase();
    if (!headers.has(name)) headers.set(name, each.slice(colon + 1).trim());
  }
  // Before version 1.1 a connection was for one request.
  if (first.startsWith("HTTP/1.0") && !headers.has("connection"))
    headers.set("connection", "close");
  return { status: Number(status), headers };
}

function corrupt(what: string): CacheError {
  return new CacheError("CORRUPT", `The answer is no HTTP/1: ${what}`);
}
