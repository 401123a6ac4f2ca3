import type { IncomingMessage, ServerResponse } from "node:http";

import { CacheError, type Logger } from "@glorious/core";

import type { Caller } from "../trust/trust-gate.ts";
import type { Exchange, RouteFamily } from "./exchange.ts";

/** What the requests of one server share. */
export interface RunContext {
  readonly logger: Logger;
  /** Aborts requests that are still running when the server must end. */
  readonly stopping: AbortSignal;
  /** Told once, when the answer is out or the client has gone. */
  readonly onClosed: (run: RequestRun) => void;
}

const NO_PARAMS: Readonly<Record<string, string>> = {};

/** One request from its head to the end of its answer. What few requests need is made when it is asked for. */
export class RequestRun implements Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly requestId: string;
  readonly logger: Logger;
  readonly startedAtMs: number = performance.now();
  /** Of the connection, when the request came. */
  readonly bytesWrittenBefore: number;
  /** The pattern of its route, or `none`. */
  route = "none";
  params: Readonly<Record<string, string>> = NO_PARAMS;
  caller: Caller = { claims: undefined, problem: "Nobody asked yet", indexVersion: undefined };
  search = "";
  family: RouteFamily = "attic";
  viewName: string | undefined = undefined;
  readonly #context: RunContext;
  #query: URLSearchParams | undefined;
  #ending: AbortController | undefined;
  #isClosed = false;

  constructor(
    request: IncomingMessage,
    response: ServerResponse,
    requestId: string,
    context: RunContext,
  ) {
    this.request = request;
    this.response = response;
    this.requestId = requestId;
    this.logger = context.logger;
    this.bytesWrittenBefore = request.socket.bytesWritten;
    this.#context = context;
    response.on("close", () => this.#close());
  }

  get query(): URLSearchParams {
    return (this.#query ??= new URLSearchParams(this.search));
  }

  get signal(): AbortSignal {
    if (this.#ending === undefined) {
      this.#ending = new AbortController();
      const { stopping } = this.#context;
      if (this.#isClosed) this.#abortUnlessFinished();
      else if (stopping.aborted) this.#ending.abort(stopping.reason);
      else stopping.addEventListener("abort", this.#onStopping);
    }
    return this.#ending.signal;
  }

  readonly #onStopping = (): void => this.#ending?.abort(this.#context.stopping.reason);

  #close(): void {
    this.#isClosed = true;
    if (this.#ending !== undefined) {
      this.#context.stopping.removeEventListener("abort", this.#onStopping);
      this.#abortUnlessFinished();
    }
    this.#context.onClosed(this);
  }

  #abortUnlessFinished(): void {
    if (this.response.writableFinished) return;
    this.#ending?.abort(new CacheError("CANCELLED", "The client went away"));
  }
}
