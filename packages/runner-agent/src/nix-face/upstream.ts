import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { zstdDecompress } from "node:zlib";

import { CacheError, describeError } from "@glorious/core";
import type { Agent } from "undici";

import type { Credentials } from "../credentials.ts";
import type { NixMissReason } from "../statistics.ts";
import type { FileBody } from "./file-connection.ts";
import { createFileConnections } from "./file-connections.ts";
import { readWhole, type WholeAnswer } from "./read-whole.ts";
import type { UpstreamHealth } from "./upstream-health.ts";

/** What became of a question that the upstream gave nothing to. */
export interface Miss {
  readonly miss: NixMissReason;
}

/** The head of an answer with content, and its body, which is to be read or destroyed. */
export interface UpstreamAnswer {
  readonly status: number;
  readonly header: (name: string) => string | undefined;
  readonly body: FileBody;
}

/** How one question is asked. */
export interface UpstreamQuestion {
  readonly method?: "GET" | "HEAD" | "POST";
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly signal?: AbortSignal | undefined;
}

/** The cache that the face stands for. Whatever goes wrong with it is a miss, soon. */
export interface Upstream extends AsyncDisposable {
  /** Asks for something small and reads it whole, within the deadline. */
  readBytes(url: URL, question?: UpstreamQuestion): Promise<Buffer | Miss>;
  /** The same for text. */
  readText(url: URL, question?: UpstreamQuestion): Promise<string | Miss>;
  /** Asks what is said of something before its content. */
  readHead(url: URL): Promise<Pick<UpstreamAnswer, "status" | "header"> | Miss>;
  /** Asks for something to stream. Who reads the body says by `report` how that ended. */
  open(url: URL, question?: UpstreamQuestion): Promise<UpstreamAnswer | Miss>;
  /** A body came whole, or it did not: for the breaker. */
  report(trouble?: string): void;
  /** Much will be asked in a moment: opens the connections for that, unless they are open. */
  warmUp(): Promise<void>;
  /** Whether it is asked at all at present. */
  readonly isAsked: boolean;
  /** How long a small answer takes to be here, as a moving average; 0 before the first. */
  readonly roundTripMs: number;
  /** Whether its answers begin so soon that there is nothing to win by asking before time. */
  readonly isNear: boolean;
}

/** Options of {@link createUpstream}. */
export interface UpstreamOptions {
  /** Asked now and then whether the upstream is back. */
  readonly probeUrl: URL;
  /** A cache that nobody signs in to may say 403 of what it does not have. */
  readonly isForbiddenAbsent: boolean;
  /** Whether a refused token is a trouble that keeps others from asking. */
  readonly isRefusalTrouble: boolean;
  readonly credentials: Credentials;
  /** When a small answer must be here, and a large one have begun. */
  readonly deadlineMs: number;
  /** Shared by all who ask the same server. */
  readonly health: UpstreamHealth;
  readonly nowMs: () => number;
}

const CONNECT_TIMEOUT_MS = 5000;
const ATTEMPTS = 2;
const RETRY_PAUSE_MS = 100;
const MAX_REDIRECTS = 5;
const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);
const MAX_SMALL_BYTES = 32 * 2 ** 20;
/** Connections for what is small, and questions on each of them that wait for their answers. */
const SMALL_CONNECTIONS = 16;
const PIPELINING = 32;
/** Servers close connections that nobody used for a few seconds. */
const WARM_MS = 3000;
/** What is read from further away takes longer to begin than to arrive. A first answer on a cold machine takes 10 ms. */
const NEAR_MS = 15;
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
  const { probeUrl, isForbiddenAbsent, credentials, deadlineMs, health, nowMs } = options;
  let opened: Promise<Agent> | undefined;
  const open = (): Promise<Agent> => (opened ??= openAgent());
  const files = createFileConnections(CONNECT_TIMEOUT_MS);
  const origin = probeUrl.origin;
  const running = new Set<AbortController>();
  let isClosed = false;
  let shortestMs = Infinity;
  let lastUsedMs = -Infinity;
  let warmedMs = -Infinity;
  let roundTripMs = 0;

  const report = (trouble?: string): void => {
    if (!isClosed) health.report(trouble);
  };

  const headersFor = (
    question: UpstreamQuestion,
    url: URL,
    token: string | undefined,
  ): Record<string, string> => ({
    "user-agent": USER_AGENT,
    "accept-encoding": "identity",
    ...question.headers,
    // Where a redirect leads somewhere else, the token is nobody's business.
    ...(token === undefined || url.origin !== origin ? {} : { authorization: `Bearer ${token}` }),
  });

  /** One way of asking: for a small answer whole, or for a body to stream. */
  type Send<Answer> = (
    url: URL,
    question: UpstreamQuestion,
    options: { readonly headers: Record<string, string>; readonly signal: AbortSignal },
  ) => Promise<Answer>;

  const sendSmall: Send<WholeAnswer> = async (url, { method = "GET", body }, asking) =>
    readWhole(await open(), { url, method, body, ...asking, maxBytes: MAX_SMALL_BYTES });

  const sendLarge: Send<UpstreamAnswer> = async (url, _, { headers, signal }) => {
    const { head, body } = await files.get(url, headers, signal);
    return { status: head.status, header: (name) => head.headers.get(name), body };
  };

  /** One request with its redirects; the token is that of the attempt. */
  const follow = async <Answer extends WholeAnswer | UpstreamAnswer>(
    send: Send<Answer>,
    url: URL,
    question: UpstreamQuestion,
    signal: AbortSignal,
  ): Promise<Answer> => {
    const token = credentials.token();
    let target = url;
    for (let redirects = 0; ; redirects += 1) {
      const headers = headersFor(question, target, token);
      const answer = await send(target, question, { headers, signal });
      const location = answer.header("location");
      if (!REDIRECTS.has(answer.status) || location === undefined) return answer;
      drop(answer);
      if (redirects === MAX_REDIRECTS) throw new CacheError("UNAVAILABLE", "too many redirects");
      target = new URL(location, target);
    }
  };

  const isRefusal = (status: number): boolean =>
    status === 401 || (status === 403 && !isForbiddenAbsent);

  const refusal = (status: number): Miss | Trouble => {
    if (!options.isRefusalTrouble) return { miss: "refused" };
    const trouble = `the token is refused, status ${status}`;
    return { miss: "refused", trouble, isTransient: false };
  };

  /** One request, with another token when this one is refused. */
  const attempt = async <Answer extends WholeAnswer | UpstreamAnswer>(
    send: Send<Answer>,
    url: URL,
    question: UpstreamQuestion,
    signal: AbortSignal,
  ): Promise<Answer | Miss | Trouble> => {
    const token = credentials.token();
    let answer = await follow(send, url, question, signal);
    if (isRefusal(answer.status)) {
      drop(answer);
      if (!(await credentials.refused(token))) return refusal(answer.status);
      answer = await follow(send, url, question, signal);
    }
    const { status } = answer;
    if (status === 200 || status === 206) return answer;
    drop(answer);
    if (isRefusal(status)) return refusal(status);
    if (status === 404 || status === 410 || status === 403) return { miss: "absent" };
    const isTransient = status >= 500 || status === 429 || status === 408;
    return { miss: "error", trouble: `status ${status}`, isTransient };
  };

  /** Asks until there is an answer or the time is up. */
  const ask = async <Answer extends WholeAnswer | UpstreamAnswer>(
    send: Send<Answer>,
    url: URL,
    question: UpstreamQuestion = {},
  ): Promise<Answer | Miss> => {
    const admission = health.admit();
    // Nobody waits for it, so that no request is ever slow because it is the one that tries.
    if (admission === "probe") void askAnyway(sendSmall, probeUrl, {}).then(reportWhole);
    return admission === "pass" ? askAnyway(send, url, question) : { miss: "breaker-open" };
  };

  const askAnyway = async <Answer extends WholeAnswer | UpstreamAnswer>(
    send: Send<Answer>,
    url: URL,
    question: UpstreamQuestion,
  ): Promise<Answer | Miss> => {
    const giveUp = new AbortController();
    let isLate = false;
    const onGone = (): void => giveUp.abort();
    const timer = setTimeout(() => {
      isLate = true;
      giveUp.abort();
    }, deadlineMs);
    const { signal: gone } = question;
    gone?.addEventListener("abort", onGone);
    running.add(giveUp);
    let trouble: Trouble | undefined;
    try {
      if (gone?.aborted === true) onGone();
      for (let attempts = 0; attempts < ATTEMPTS; attempts += 1) {
        if (attempts > 0) await sleep(RETRY_PAUSE_MS, undefined, { signal: giveUp.signal });
        try {
          const answer = await attempt(send, url, question, giveUp.signal);
          if ("status" in answer) return answer;
          if (!("trouble" in answer)) {
            report();
            return answer;
          }
          trouble = answer;
        } catch (error) {
          if (giveUp.signal.aborted) throw error;
          const said = describeError(networkCause(error));
          trouble = { miss: "error", trouble: said, isTransient: true };
        }
        if (!trouble.isTransient) break;
      }
    } catch {
      // Nobody waits for it any more: nothing is known of the upstream.
      if (!isLate) return { miss: "error" };
      const said = `no answer within ${deadlineMs} ms`;
      trouble ??= { miss: "timeout", trouble: said, isTransient: true };
    } finally {
      clearTimeout(timer);
      running.delete(giveUp);
      // A body that is streamed is given up by its reader.
      gone?.removeEventListener("abort", onGone);
    }
    report(trouble?.trouble ?? "no answer");
    return { miss: trouble?.miss ?? "error" };
  };

  /** A small answer is whole. */
  const reportWhole = (answer: WholeAnswer | Miss): void => {
    if ("status" in answer) report();
  };

  const readSmall = async (url: URL, question?: UpstreamQuestion): Promise<WholeAnswer | Miss> => {
    const startMs = nowMs();
    const answer = await ask(sendSmall, url, question);
    if ("status" in answer) {
      lastUsedMs = nowMs();
      const tookMs = lastUsedMs - startMs;
      shortestMs = Math.min(shortestMs, tookMs);
      roundTripMs = roundTripMs === 0 ? tookMs : 0.8 * roundTripMs + 0.2 * tookMs;
    }
    reportWhole(answer);
    return answer;
  };

  return {
    async readBytes(url, question) {
      const answer = await readSmall(url, question);
      return "status" in answer ? answer.bytes : answer;
    },
    async readText(url, question) {
      const answer = await readSmall(url, question);
      return "status" in answer ? readTextOf(answer) : answer;
    },
    readHead: (url) => readSmall(url, { method: "HEAD" }),
    open: (url, question) => ask(sendLarge, url, question),
    report,
    async warmUp() {
      if (!health.isAsked || nowMs() - warmedMs < WARM_MS) return;
      if (nowMs() - lastUsedMs < WARM_MS && warmedMs > -Infinity) return;
      warmedMs = nowMs();
      const small = await open();
      const signal = AbortSignal.timeout(deadlineMs);
      const headers = headersFor({}, probeUrl, credentials.token());
      const head = { url: probeUrl, method: "HEAD", headers, maxBytes: 0, signal } as const;
      for (let count = 0; count < SMALL_CONNECTIONS; count += 1) {
        // Whether it works is for real questions to find out.
        readWhole(small, head).catch(() => {});
      }
    },
    get isAsked() {
      return health.isAsked;
    },
    get isNear() {
      return shortestMs < NEAR_MS;
    },
    get roundTripMs() {
      return roundTripMs;
    },
    async [Symbol.asyncDispose]() {
      isClosed = true;
      for (const each of running) each.abort();
      files[Symbol.dispose]();
      await (await opened)?.destroy();
    },
  };
}

/** Its module is loaded here and not with this one: a job's start would wait for it, and Nix asks later. */
async function openAgent(): Promise<Agent> {
  const { Agent: SmallAgent } = await import("undici");
  return new SmallAgent({
    headersTimeout: 0,
    bodyTimeout: 0,
    allowH2: false,
    connect: { timeout: CONNECT_TIMEOUT_MS },
    connections: SMALL_CONNECTIONS,
    pipelining: PIPELINING,
  });
}

/** What comes after the head of an answer that is of no use. */
function drop(answer: WholeAnswer | UpstreamAnswer): void {
  if ("body" in answer) answer.body.destroy();
}

async function readTextOf({ bytes, header }: WholeAnswer): Promise<string | Miss> {
  if (header("content-encoding") !== "zstd") return bytes.toString("utf8");
  try {
    return (await decompress(bytes, { maxOutputLength: MAX_SMALL_BYTES })).toString("utf8");
  } catch {
    return { miss: "error" };
  }
}

/** undici wraps what the socket said. */
function networkCause(error: unknown): unknown {
  return error instanceof Error && error.cause instanceof Error ? error.cause : error;
}
