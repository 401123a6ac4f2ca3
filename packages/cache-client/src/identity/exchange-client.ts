import { CacheError, formatDurationMs } from "@glorious/core";
import * as v from "valibot";

import { parseAnswer } from "../cache-config.ts";
import { systemClock } from "../clock.ts";
import type { HttpRequestOptions, TlsOptions } from "../http-client.ts";
import { ResponseError } from "../response-error.ts";
import { DEFAULT_RETRY_POLICY, withRetry } from "../retry.ts";
import { parseServerUrl } from "../server-url.ts";
import { Sentence, Word } from "../server-words.ts";
import { createShortClient } from "../short-client.ts";

/** What a server says before anybody has shown who they are. */
export interface Discovery {
  readonly version: string;
  /** What identity tokens must be made for; absent where none are exchanged. */
  readonly audience?: string | undefined;
  /** The view for who names none, where everybody may read it. */
  readonly defaultView?: string | undefined;
  /** Sentences for people. */
  readonly notices: readonly string[];
}

/** What the server decided that a job may do. */
export interface JobGrant {
  /** `undefined` for the default tenant. */
  readonly tenant?: string | undefined;
  readonly trust: "trusted" | "overlay" | "untrusted";
  /** Full view names in the order of reading. */
  readonly read: readonly string[];
  readonly write?: string | undefined;
  readonly rule: string;
  /** One plain sentence. */
  readonly reason: string;
}

/** What an identity token was exchanged for. */
export interface ExchangedToken {
  /** Secret. */
  readonly token: string;
  /** ISO 8601. */
  readonly expiresAt: string;
  readonly grant: JobGrant;
  /** For Nix. */
  readonly nix: {
    readonly substituters: readonly string[];
    readonly publicKeys: readonly string[];
    /** Where the paths belong; servers before this field do not say. */
    readonly storeDir?: string | undefined;
    readonly pushEndpoint?: string | undefined;
  };
  /** Absent where the server serves no Bazel. */
  readonly bazel?:
    | { readonly grpc: string; readonly http: string; readonly instance: string }
    | undefined;
  readonly notices: readonly string[];
}

/** What is asked for. It can only narrow what the server's policy gives. */
export interface ExchangeWish {
  readonly view?: string | undefined;
  readonly mode?: "read" | "write" | undefined;
}

export interface ExchangeClientOptions {
  readonly server: string;
  readonly tls?: TlsOptions | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Exchanges identity tokens at one server, over connections that stay open until it is disposed. Each call takes at most
 * 10 s, its two repetitions included.
 */
export interface ExchangeClient extends AsyncDisposable {
  discover(): Promise<Discovery>;
  /**
   * @throws {CacheError} a `ResponseError` with the server's refusal, whose `details.reason` programs may match on. No
   *   message holds the token.
   */
  exchange(identityToken: string, wish?: ExchangeWish): Promise<ExchangedToken>;
}

const TOTAL_TIMEOUT_MS = 10_000;
const ATTEMPTS = 3;

const Notices = v.optional(v.array(Sentence), []);
const DiscoveryAnswer = v.object({
  version: Sentence,
  audience: v.optional(v.pipe(v.string(), v.url())),
  defaultView: v.optional(
    v.pipe(
      v.object({ name: Word }),
      v.transform(({ name }) => name),
    ),
  ),
  notices: Notices,
});
const ExchangeAnswer = v.object({
  token: Word,
  expiresAt: v.pipe(v.string(), v.isoTimestamp()),
  grant: v.object({
    tenant: v.optional(Word),
    trust: v.picklist(["trusted", "overlay", "untrusted"]),
    read: v.array(Word),
    write: v.optional(Word),
    rule: Sentence,
    reason: Sentence,
  }),
  nix: v.object({
    substituters: v.array(v.pipe(v.string(), v.regex(/^https?:\/\/[\x21-\x7E]+$/))),
    publicKeys: v.array(Word),
    storeDir: v.optional(Word),
    pushEndpoint: v.optional(Word),
  }),
  bazel: v.optional(v.object({ grpc: Word, http: Word, instance: Word })),
  notices: Notices,
});

/** @throws {CacheError} `INVALID` when the server's address is none, `CONFIG` when no secret may go there. */
export function createExchangeClient(options: ExchangeClientOptions): ExchangeClient {
  const base = parseServerUrl(options.server);
  requireConfidential(base);
  const http = createShortClient({ tls: options.tls });

  const ask = async <Schema extends v.GenericSchema>(
    schema: Schema,
    method: "GET" | "POST",
    path: string,
    request: Pick<HttpRequestOptions, "json" | "secret"> = {},
  ): Promise<v.InferOutput<Schema>> => {
    const url = new URL(`_flywheel/v1/${path}`, base);
    const line = `${method} ${url.href}`;
    const timeout = AbortSignal.timeout(TOTAL_TIMEOUT_MS);
    const signal =
      options.signal === undefined ? timeout : AbortSignal.any([options.signal, timeout]);
    try {
      const text = await withRetry(
        async () => (await http.send(method, url, { ...request, signal })).text,
        {
          what: line,
          policy: { ...DEFAULT_RETRY_POLICY, maxAttempts: ATTEMPTS, maxTotalMs: TOTAL_TIMEOUT_MS },
          clock: systemClock,
          random: Math.random,
          signal,
        },
      );
      return parseAnswer(schema, text, line);
    } catch (error) {
      if (!timeout.aborted || options.signal?.aborted === true) throw error;
      const limit = formatDurationMs(TOTAL_TIMEOUT_MS);
      throw new CacheError("TIMEOUT", `${line}: no answer in ${limit}`, { cause: error });
    }
  };

  return {
    async discover() {
      try {
        return await ask(DiscoveryAnswer, "GET", "discover");
      } catch (error) {
        // An atticd, or a server of ours from before: neither exchanges anything.
        if (!(error instanceof ResponseError) || error.status !== 404) throw error;
        throw new CacheError("UNSUPPORTED", `${base.href} exchanges no identity tokens`, {
          cause: error,
          hint: "It must be a GloriousFlywheel server with a trust policy.",
        });
      }
    },
    exchange: (token, { view, mode } = {}) =>
      ask(ExchangeAnswer, "POST", "exchange", { json: { token, view, mode }, secret: token }),
    [Symbol.asyncDispose]: () => http[Symbol.asyncDispose](),
  };
}

/**
 * An identity token is sent to https, to this machine, and within a cluster.
 *
 * @throws {CacheError} `CONFIG` for any other address.
 */
function requireConfidential({ protocol, hostname, host }: URL): void {
  const isInside =
    hostname === "localhost" ||
    hostname === "[::1]" ||
    /^127\.\d+\.\d+\.\d+$/.test(hostname) ||
    /\.svc(\.[a-z0-9.-]+)?$/.test(hostname);
  if (protocol === "https:" || isInside) return;
  throw new CacheError(
    "CONFIG",
    `${host} is reached without TLS: no identity token is sent there`,
    {
      hint: "Use its https address.",
    },
  );
}

/**
 * The audience to ask an identity token for. A server may name its own address only: with a token for another's it
 * could go there in this job's place.
 *
 * @param expected The audience that the job or its runner names, for a server that is reached under another address.
 * @throws {CacheError} `UNSUPPORTED` when the server exchanges none, `CONFIG` when it names another address.
 */
export function chooseAudience(
  server: string,
  { audience, notices }: Discovery,
  expected: string | undefined,
): string {
  const base = parseServerUrl(server);
  if (audience === undefined) {
    throw new CacheError("UNSUPPORTED", `${base.href} exchanges no identity tokens`, {
      hint: notices[0] ?? "Its operator has to set a trust policy.",
    });
  }
  const named = parseServerUrl(audience).href;
  if (expected === undefined ? named === base.href : named === parseServerUrl(expected).href) {
    return audience;
  }
  const wanted = expected ?? base.href;
  throw new CacheError("CONFIG", `The server asks for tokens for ${audience}, not for ${wanted}`, {
    hint: "Name the server by its public address, or say with --audience that this is its audience.",
  });
}
