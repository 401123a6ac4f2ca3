import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { zstdDecompress } from "node:zlib";

import { CacheError, describeError, type Logger } from "@glorious/core";
import { Agent, type Dispatcher, request as undiciRequest } from "undici";

import { type CircuitBreaker, createCircuitBreaker } from "../breaker/circuit-breaker.ts";
import type { Credentials } from "../credentials.ts";
import type { NixMissReason, Statistics } from "../statistics.ts";

/** What became of a question that the upstream gave nothing to. */
export interface Miss {
  readonly miss: NixMissReason;
}

/** The head of an answer with content, and its body, which is to be read or destroyed. */
export interface UpstreamAnswer {
  readonly status: number;
  readonly header: (name: string) => string | undefined;
  readonly body: Dispatcher.ResponseData["body"];
}

/** How one question is asked. */
export interface UpstreamQuestion {
  readonly method?: "GET" | "HEAD" | "POST";
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  /** Many small answers share connections; a large one has its own. */
  readonly size: "small" | "large";
  readonly signal?: AbortSignal | undefined;
}

/** The cache that the face stands for. Whatever goes wrong with it is a miss, soon. */
export interface Upstream extends AsyncDisposable {
  /** Asks for something small and reads it whole, within the deadline. */
  readText(url: URL, question: UpstreamQuestion): Promise<string | Miss>;
  /** Asks for something to stream. Who reads the body says by `report` how that ended. */
  open(url: URL, question: UpstreamQuestion): Promise<UpstreamAnswer | Miss>;
  /** A body came whole, or it did not: for the breaker. */
  report(trouble?: string): void;
  /** Whether it is asked at all at present. */
  readonly isAsked: boolean;
  /** How long an answer takes to begin, as a moving average; 0 before the first. */
  readonly roundTripMs: number;
}

/** Options of {@link createUpstream}. */
export interface UpstreamOptions {
  /** Asked now and then whether the upstream is back. */
  readonly probeUrl: URL;
  /** A cache that nobody signs in to may say 403 of what it does not have. */
  readonly isForbiddenAbsent: boolean;
  readonly credentials: Credentials;
  /** When a small answer must be here, and a large one have begun. */
  readonly deadlineMs: number;
  readonly statistics: Statistics;
  readonly logger: Logger;
  readonly nowMs: () => number;
}

const ATTEMPTS = 2;
const RETRY_PAUSE_MS = 100;
const MAX_REDIRECTS = 5;
const MAX_TEXT_BYTES = 32 * 2 ** 20;
const USER_AGENT = "gloriousflywheel-agent";
const decompress = promisify(zstdDecompress);

/** A request whose answer is no answer. */
interface Trouble extends Miss {
  /** For people: what the upstream did. */
  readonly trouble: string;
  /** Whether once more is worth it. */
  readonly isTransient: boolean;
}

/** Asks an upstream with deadlines, one repetition and a breaker. */
export function createUpstream(options: UpstreamOptions): Upstream {
  const { probeUrl, isForbiddenAbsent, credentials, deadlineMs, statistics, logger, nowMs } =
    options;
  const common = { headersTimeout: 0, bodyTimeout: 0, allowH2: false };
  const agents = {
    small: new Agent({ ...common, connections: 32, pipelining: 8, connect: { timeout: 5000 } }),
    large: new Agent({ ...common, connections: 64, pipelining: 1, connect: { timeout: 5000 } }),
  };
  const origin = probeUrl.origin;
  const closing = new AbortController();
  let lastTrouble = "";
  let roundTripMs = 0;
  const breaker: CircuitBreaker = createCircuitBreaker({
    nowMs,
    onChange(state) {
      statistics.breaker("nix", state);
      if (state === "closed") logger.info("the cache answers again", { origin });
      else {
        logger.warn("the cache is not asked for a while", { origin, trouble: lastTrouble });
        warnOnce();
      }
    },
  });
  let isWarned = false;
  const warnOnce = (): void => {
    if (isWarned) return;
    isWarned = true;
    statistics.warn(
      `The cache at ${origin} is in trouble (${lastTrouble}); what it has is built or fetched elsewhere meanwhile`,
    );
  };

  const report = (trouble?: string): void => {
    if (closing.signal.aborted) return;
    if (trouble === undefined) {
      breaker.succeeded();
      return;
    }
    lastTrouble = trouble;
    breaker.failed();
  };

  const headersFor = (question: UpstreamQuestion, url: URL, token: string | undefined) => ({
    "user-agent": USER_AGENT,
    "accept-encoding": "identity",
    ...question.headers,
    // Where a redirect leads somewhere else, the token is nobody's business.
    ...(token === undefined || url.origin !== origin ? {} : { authorization: `Bearer ${token}` }),
  });

  /** One request with its redirects; the token is that of the attempt. */
  const send = async (
    url: URL,
    question: UpstreamQuestion,
    token: string | undefined,
    signal: AbortSignal,
  ): Promise<UpstreamAnswer> => {
    let target = url;
    for (let redirects = 0; ; redirects += 1) {
      const response = await undiciRequest(target, {
        dispatcher: agents[question.size],
        method: question.method ?? "GET",
        headers: headersFor(question, target, token),
        body: question.body ?? null,
        signal,
      });
      const header = (name: string): string | undefined => {
        const value = response.headers[name];
        return typeof value === "string" ? value : value?.[0];
      };
      const location = header("location");
      const { statusCode: status, body } = response;
      if (![301, 302, 303, 307, 308].includes(status) || location === undefined) {
        return { status, header, body };
      }
      await dropBody(body);
      if (redirects === MAX_REDIRECTS) throw new CacheError("UNAVAILABLE", "too many redirects");
      target = new URL(location, target);
    }
  };

  /** One request, with another token when this one is refused. */
  const attempt = async (
    url: URL,
    question: UpstreamQuestion,
    signal: AbortSignal,
  ): Promise<UpstreamAnswer | Miss | Trouble> => {
    const token = credentials.token();
    const startMs = nowMs();
    let answer = await send(url, question, token, signal);
    roundTripMs =
      roundTripMs === 0 ? nowMs() - startMs : 0.8 * roundTripMs + 0.2 * (nowMs() - startMs);
    if (answer.status === 401 || (answer.status === 403 && !isForbiddenAbsent)) {
      await dropBody(answer.body);
      if (!(await credentials.refused(token))) return refusal(answer.status);
      answer = await send(url, question, credentials.token(), signal);
    }
    const { status, body } = answer;
    if (status === 200 || status === 206) return answer;
    await dropBody(body);
    if (status === 401 || (status === 403 && !isForbiddenAbsent)) return refusal(status);
    if (status === 404 || status === 410 || status === 403) return { miss: "absent" };
    const isTransient = status >= 500 || status === 429 || status === 408;
    return { miss: "error", trouble: `status ${status}`, isTransient };
  };

  /** Asks until there is an answer or the time is up; `use` reads what it needs of it within the same deadline. */
  const ask = async <Result>(
    url: URL,
    question: UpstreamQuestion,
    use: (answer: UpstreamAnswer) => Promise<Result>,
  ): Promise<Result | Miss> => {
    const admission = breaker.admit();
    if (admission === "probe") void probe();
    if (admission !== "pass") return { miss: "breaker-open" };
    return askAnyway(url, question, use);
  };

  const askAnyway = async <Result>(
    url: URL,
    question: UpstreamQuestion,
    use: (answer: UpstreamAnswer) => Promise<Result>,
  ): Promise<Result | Miss> => {
    const deadline = new AbortController();
    const timer = setTimeout(() => deadline.abort(), deadlineMs);
    const signals = [
      deadline.signal,
      closing.signal,
      ...(question.signal ? [question.signal] : []),
    ];
    const signal = AbortSignal.any(signals);
    let trouble: Trouble | undefined;
    try {
      for (let attempts = 0; attempts < ATTEMPTS; attempts += 1) {
        if (attempts > 0) await sleep(RETRY_PAUSE_MS, undefined, { signal });
        try {
          const answer = await attempt(url, question, signal);
          if ("status" in answer) return await use(answer);
          if (!("trouble" in answer)) {
            report();
            return answer;
          }
          trouble = answer;
        } catch (error) {
          if (signal.aborted) throw error;
          trouble = {
            miss: "error",
            trouble: describeError(networkCause(error)),
            isTransient: true,
          };
        }
        if (!trouble.isTransient) break;
      }
    } catch {
      // Nobody waits for it any more: nothing is known of the upstream.
      if (!deadline.signal.aborted) return { miss: "error" };
      trouble ??= {
        miss: "timeout",
        trouble: `no answer within ${deadlineMs} ms`,
        isTransient: true,
      };
    } finally {
      clearTimeout(timer);
    }
    report(trouble?.trouble ?? "no answer");
    return { miss: trouble?.miss ?? "error" };
  };

  const readText = async (answer: UpstreamAnswer): Promise<string> => {
    const pieces: Buffer[] = [];
    let sizeBytes = 0;
    for await (const piece of answer.body as AsyncIterable<Buffer>) {
      sizeBytes += piece.length;
      if (sizeBytes > MAX_TEXT_BYTES) throw new CacheError("TOO_LARGE", "the answer is too large");
      pieces.push(piece);
    }
    const bytes = Buffer.concat(pieces);
    const isPacked = answer.header("content-encoding") === "zstd";
    const text = isPacked ? await decompress(bytes, { maxOutputLength: MAX_TEXT_BYTES }) : bytes;
    report();
    return text.toString("utf8");
  };

  /** Nobody waits for it, so that no request is ever slow because it is the one that tries. */
  const probe = async (): Promise<void> => {
    await askAnyway(probeUrl, { size: "small" }, readText);
  };

  return {
    readText: (url, question) => ask(url, question, readText),
    open: (url, question) => ask(url, question, (answer) => Promise.resolve(answer)),
    report,
    get isAsked() {
      return breaker.state === "closed";
    },
    get roundTripMs() {
      return roundTripMs;
    },
    async [Symbol.asyncDispose]() {
      closing.abort();
      await Promise.all([agents.small.destroy(), agents.large.destroy()]);
    },
  };
}

function refusal(status: number): Trouble {
  return { miss: "refused", trouble: `the token is refused, status ${status}`, isTransient: false };
}

async function dropBody(body: UpstreamAnswer["body"]): Promise<void> {
  await body.dump({ limit: 64 * 1024 }).catch(() => {});
}

/** undici wraps what the socket said. */
function networkCause(error: unknown): unknown {
  return error instanceof Error && error.cause instanceof Error ? error.cause : error;
}
