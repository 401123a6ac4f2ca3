import { promisify } from "node:util";
import { brotliDecompress, gunzip, zstdDecompress } from "node:zlib";

import { Agent, type Dispatcher, request } from "undici";

import type { AddressGuard } from "./address-guard.ts";
import { UpstreamFault } from "./upstream-fault.ts";

/** The head of an answer, and its body, which is to be read or destroyed. */
export interface UpstreamResponse {
  readonly status: number;
  readonly header: (name: string) => string | undefined;
  readonly body: Dispatcher.ResponseData["body"];
}

/** Ids of servers of ours, so that those that name each other do not ask in circles. */
export type Via = readonly string[];

/** Carries a {@link Via}. */
export const VIA_HEADER = "x-flywheel-via";

/** An id by which a server knows itself in a {@link Via}; another one after each start. */
export function createServerId(): string {
  return crypto.randomUUID().slice(0, 8);
}

export function isServerId(text: string): boolean {
  return /^[0-9a-f]{8}$/.test(text);
}

/** How one question is asked. */
export interface UpstreamRequest {
  /** The servers that asked each other for this, the first one first. */
  readonly via?: Via;
  /** NARs have connections of their own, so that they hold nothing small up. */
  readonly isNar?: boolean;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
}

/** The way to one upstream. */
export interface UpstreamHttp extends AsyncDisposable {
  /**
   * Sends a GET and follows its redirects. The credential goes to the upstream's own origin alone.
   *
   * @throws {UpstreamFault} `unreachable`, `clock`, `certificate`, `redirects`, `private-address`; the signal's reason.
   */
  get(url: URL, request: UpstreamRequest): Promise<UpstreamResponse>;
}

export interface UpstreamHttpOptions {
  readonly origin: string;
  /** Secret. */
  readonly authorization: string | undefined;
  readonly guard: AddressGuard;
  readonly maxNars: number;
}

const CONNECT_TIMEOUT_MS = 5000;
/** For narinfos and the like, which an empty store asks for by the hundred. */
export const SMALL_CONNECTIONS = 48;
const MAX_REDIRECTS = 5;
const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);
const USER_AGENT = "gloriousflywheel-server";

export function createUpstreamHttp(options: UpstreamHttpOptions): UpstreamHttp {
  const { origin, authorization, guard } = options;
  const common = {
    headersTimeout: 0,
    bodyTimeout: 0,
    allowH2: false,
    pipelining: 1,
    connect: { timeout: CONNECT_TIMEOUT_MS, lookup: guard.lookup },
  };
  const small = new Agent({ ...common, connections: SMALL_CONNECTIONS });
  const nars = new Agent({ ...common, connections: options.maxNars });

  const send = async (
    url: URL,
    { isNar = false, via = [], headers, signal }: UpstreamRequest,
  ): Promise<UpstreamResponse> => {
    await guard.requireAllowed(url);
    const response = await request(url, {
      dispatcher: isNar ? nars : small,
      signal,
      headers: {
        "user-agent": USER_AGENT,
        "accept-encoding": "identity",
        ...(via.length === 0 ? {} : { [VIA_HEADER]: via.join(",") }),
        ...headers,
        ...(authorization === undefined || url.origin !== origin ? {} : { authorization }),
      },
    });
    // Who destroys a body knows why; nobody else need hear of it.
    response.body.on("error", () => {});
    const header = (name: string): string | undefined => {
      const value = response.headers[name];
      return typeof value === "string" ? value : value?.[0];
    };
    return { status: response.statusCode, header, body: response.body };
  };

  return {
    async get(url, question) {
      let target = url;
      for (let redirects = 0; ; redirects += 1) {
        let response: UpstreamResponse;
        try {
          response = await send(target, question);
        } catch (error) {
          question.signal.throwIfAborted();
          throw toFault(error, target);
        }
        if (!REDIRECTS.has(response.status)) return response;
        response.body.destroy();
        target = nextAddress(target, response.header("location"));
        if (redirects === MAX_REDIRECTS) {
          throw new UpstreamFault("redirects", `more than ${MAX_REDIRECTS} redirects`);
        }
      }
    },
    async [Symbol.asyncDispose]() {
      await Promise.all([small.destroy(), nars.destroy()]);
    },
  };
}

function nextAddress(from: URL, location: string | undefined): URL {
  const next = location === undefined ? undefined : URL.parse(location, from.href);
  if (next?.protocol !== "http:" && next?.protocol !== "https:") {
    throw new UpstreamFault("redirects", "a redirect that leads to no address of the web");
  }
  // What an upstream writes there is not for others, and not for logs.
  next.username = "";
  next.password = "";
  return next;
}

const DECODERS: Readonly<
  Record<string, (bytes: Buffer, options: { maxOutputLength: number }) => Promise<Buffer>>
> = {
  gzip: promisify(gunzip) as (bytes: Buffer, options: object) => Promise<Buffer>,
  br: promisify(brotliDecompress) as (bytes: Buffer, options: object) => Promise<Buffer>,
  zstd: promisify(zstdDecompress) as (bytes: Buffer, options: object) => Promise<Buffer>,
};

/**
 * Reads a small answer whole. Encodings that nobody asked for are undone within the same bound.
 *
 * @throws {UpstreamFault} `too-large`, `encoding`, `unreachable` when it is cut.
 */
export async function readSmallBody(
  { header, body }: UpstreamResponse,
  maxBytes: number,
): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  try {
    // Leaving the loop destroys the rest.
    for await (const chunk of body as AsyncIterable<Buffer>) {
      sizeBytes += chunk.length;
      if (sizeBytes > maxBytes) throw tooLarge(maxBytes);
      chunks.push(chunk);
    }
  } catch (error) {
    if (error instanceof UpstreamFault) throw error;
    throw new UpstreamFault("unreachable", "the answer was cut", error);
  }
  const bytes = Buffer.concat(chunks, sizeBytes);
  const encoding = header("content-encoding");
  if (encoding === undefined || encoding === "identity") return bytes;
  const decode = DECODERS[encoding];
  if (decode === undefined) {
    throw new UpstreamFault("encoding", "a content encoding that nobody asked for");
  }
  try {
    return await decode(bytes, { maxOutputLength: maxBytes });
  } catch (cause) {
    throw new UpstreamFault(
      "encoding",
      `a ${encoding} body that does not decode to at most ${maxBytes} bytes`,
      cause,
    );
  }
}

function tooLarge(maxBytes: number): UpstreamFault {
  return new UpstreamFault("too-large", `an answer of more than ${maxBytes} bytes`);
}

const CLOCK: ReadonlySet<string> = new Set(["CERT_NOT_YET_VALID", "CERT_HAS_EXPIRED"]);
const CERTIFICATE =
  /^(CERT_|ERR_TLS_|ERR_SSL_|SELF_SIGNED_|DEPTH_ZERO_|UNABLE_TO_(GET|VERIFY)_|HOSTNAME_MISMATCH)/;

/** What a connection broke with. Whatever else it says stays in the cause: it may hold an address. */
export function toFault(error: unknown, { host }: URL): UpstreamFault {
  if (error instanceof UpstreamFault) return error;
  const causes = [...causesOf(error)];
  const fault = causes.find((cause) => cause instanceof UpstreamFault);
  if (fault !== undefined) return fault;
  const codes = causes.map(codeOf).filter((code) => code !== undefined);
  if (codes.some((code) => CLOCK.has(code))) {
    return new UpstreamFault(
      "clock",
      `the certificate of ${host} is not valid at this time`,
      error,
    );
  }
  if (codes.some((code) => CERTIFICATE.test(code))) {
    return new UpstreamFault("certificate", `the certificate of ${host} is not trusted`, error);
  }
  return new UpstreamFault("unreachable", `${host}: ${codes[0] ?? "the connection broke"}`, error);
}

function* causesOf(error: unknown): Generator<Error> {
  for (let current = error, depth = 0; current instanceof Error && depth < 5; depth += 1) {
    yield current;
    // A host with several addresses fails with one error for each.
    current = current instanceof AggregateError ? current.errors[0] : current.cause;
  }
}

function codeOf(error: Error): string | undefined {
  return "code" in error && typeof error.code === "string" ? error.code : undefined;
}
