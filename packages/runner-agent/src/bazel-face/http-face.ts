import type { IncomingMessage, ServerResponse } from "node:http";
import { pipeline } from "node:stream/promises";

import { describeError } from "@glorious/core";
import { Agent, type Dispatcher } from "undici";

import type { FaceContext } from "./face-context.ts";

/** Answers requests of HTTP/1.1; `path` is what follows the secret. */
export interface HttpFace extends AsyncDisposable {
  handle(request: IncomingMessage, response: ServerResponse, path: string): void;
}

const CONNECT_TIMEOUT_MS = 5000;
const ANSWER_TIMEOUT_MS = 8000;
/** The longest pause within a body, and from the end of an upload to its answer. */
const PAUSE_MS = 15_000;
const MAX_CONNECTIONS = 64;
/** Larger ActionResults are passed on without a look. */
const MAX_RESULT_BYTES = 4 * 2 ** 20;
const PASSED_HEADERS = ["content-length", "content-type", "content-encoding", "accept-ranges"];
const READS: ReadonlySet<string> = new Set(["GET", "HEAD"]);
const GONE = "The cache does not answer now; the build goes on without it.\n";

/** @param url the cache's own address, without a view */
export function createHttpFace(url: URL, context: FaceContext): HttpFace {
  const dispatcher = new Agent({
    connect: { timeout: CONNECT_TIMEOUT_MS },
    connections: MAX_CONNECTIONS,
    headersTimeout: ANSWER_TIMEOUT_MS,
    bodyTimeout: PAUSE_MS,
  });
  const base = url.href.replace(/\/$/, "");
  return {
    handle(request, response, path) {
      const passed = new PassedRequest(context, dispatcher, request, response, `${base}${path}`);
      passed.run().catch((error: unknown) => {
        context.logger.debug("a request was broken off", { error: describeError(error) });
        response.destroy();
      });
    },
    [Symbol.asyncDispose]: () => dispatcher.destroy(),
  };
}

interface HitCollector {
  add(chunk: Buffer): void;
  /** All of it came. */
  promise(): void;
}

/** One request of Bazel's, and the request to the cache that stands behind it. */
class PassedRequest {
  readonly #context: FaceContext;
  readonly #dispatcher: Dispatcher;
  readonly #request: IncomingMessage;
  readonly #response: ServerResponse;
  readonly #url: string;
  readonly #isRead: boolean;
  readonly #abort = new AbortController();

  constructor(
    context: FaceContext,
    dispatcher: Dispatcher,
    request: IncomingMessage,
    response: ServerResponse,
    url: string,
  ) {
    this.#context = context;
    this.#dispatcher = dispatcher;
    this.#request = request;
    this.#response = response;
    this.#url = url;
    this.#isRead = READS.has(request.method ?? "");
    response.on("close", () => this.#abort.abort());
  }

  async run(): Promise<void> {
    const { breaker, credentials } = this.#context;
    if (breaker.admit() === "reject") {
      this.#answerDegraded();
      return;
    }
    const token = credentials.token();
    let answer = await this.#ask(token);
    if (answer?.statusCode === 401 && this.#isRead && (await credentials.refused(token))) {
      await answer.body.dump();
      answer = await this.#ask(credentials.token());
    }
    if (answer === undefined) return;
    await this.#pass(answer);
  }

  /** @returns `undefined` when the request is answered already */
  async #ask(token: string | undefined): Promise<Dispatcher.ResponseData | undefined> {
    const { breaker, statistics } = this.#context;
    try {
      return await this.#dispatcher.request({
        ...splitUrl(this.#url),
        method: this.#request.method ?? "GET",
        headers: this.#headers(token),
        body: this.#isRead ? null : this.#request,
        signal: this.#abort.signal,
      });
    } catch (error) {
      if (this.#response.destroyed) {
      } else {
        breaker.failed();
        statistics.warn(`The cache had trouble: ${describeError(error)}.`);
        this.#answerDegraded();
      }
      return undefined;
    }
  }

  async #pass(answer: Dispatcher.ResponseData): Promise<void> {
    const { breaker, statistics } = this.#context;
    const { statusCode, body } = answer;
    if (statusCode >= 500 || statusCode === 429 || statusCode === 401) {
      breaker.failed();
      statistics.warn(`The cache had trouble: it answered ${statusCode}.`);
      await body.dump();
      this.#answerDegraded();
      return;
    }
    breaker.succeeded();
    if (this.#isRead && statusCode === 403) {
      await body.dump();
      this.#answerDegraded();
      return;
    }
    this.#count(statusCode);
    const response = this.#response;
    response.statusCode = statusCode;
    for (const name of PASSED_HEADERS) {
      const value = answer.headers[name];
      if (value !== undefined) response.setHeader(name, value);
    }
    const hit = statusCode === 200 ? this.#collectHit(answer) : undefined;
    body.on("data", (chunk: Buffer) => {
      statistics.bazel.down(chunk.length);
      hit?.add(chunk);
    });
    try {
      await pipeline(body, response);
    } catch (error) {
      if (!this.#abort.signal.aborted) breaker.failed();
      throw error;
    }
    hit?.promise();
  }

  /** What an ActionResult names will be asked for. */
  #collectHit(answer: Dispatcher.ResponseData): HitCollector | undefined {
    const { kept } = this.#context;
    const instanceName = /^\/(.+)\/ac\/[0-9a-f]{64}$/.exec(new URL(this.#url).pathname)?.[1];
    if (kept === undefined || instanceName === undefined || this.#request.method !== "GET") {
      return undefined;
    }
    if (answer.headers["content-encoding"] !== undefined) return undefined;
    const chunks: Buffer[] = [];
    let sizeBytes = 0;
    return {
      add(chunk) {
        sizeBytes += chunk.length;
        if (sizeBytes <= MAX_RESULT_BYTES) chunks.push(chunk);
      },
      promise() {
        if (sizeBytes <= MAX_RESULT_BYTES) kept.promise(Buffer.concat(chunks), instanceName);
      },
    };
  }

  #count(statusCode: number): void {
    const { bazel } = this.#context.statistics;
    if (this.#isRead && this.#url.includes("/ac/")) {
      if (statusCode === 200) bazel.actionHit();
      else if (statusCode === 404) bazel.actionMiss();
    }
    if (!this.#isRead) bazel.up(Number(this.#request.headers["content-length"] ?? 0));
  }

  #headers(token: string | undefined): Record<string, string> {
    const headers: Record<string, string> = {};
    for (const name of ["accept", "accept-encoding", "content-type", "content-length", "range"]) {
      const value = this.#request.headers[name];
      if (typeof value === "string") headers[name] = value;
    }
    const agent = this.#request.headers["user-agent"];
    if (agent !== undefined) headers["user-agent"] = agent;
    if (token !== undefined) headers["authorization"] = `Bearer ${token}`;
    return headers;
  }

  /** An empty cache that may not be written to, except for what is kept. */
  #answerDegraded(): void {
    const { kept, statistics } = this.#context;
    const response = this.#response;
    statistics.bazel.degradedAnswer();
    const hash = /\/cas\/([0-9a-f]{64})$/.exec(this.#url)?.[1];
    const blob = this.#request.method === "GET" && hash ? kept?.findBySum(hash) : undefined;
    if (blob !== undefined) {
      response.writeHead(200, { "content-length": blob.sizeBytes });
      pipeline(blob.content, response).catch(() => response.destroy());
      return;
    }
    // What is sent after a refusal would be taken for the next request.
    this.#request.resume();
    response.writeHead(this.#isRead ? 404 : 403, { "content-type": "text/plain" });
    response.end(this.#request.method === "HEAD" ? undefined : GONE);
  }
}

function splitUrl(text: string): { origin: string; path: string } {
  const { origin, pathname, search } = new URL(text);
  return { origin, path: pathname + search };
}
