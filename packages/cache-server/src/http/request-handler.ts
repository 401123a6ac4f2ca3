import { randomBytes } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";

import { CacheError, type Logger } from "@glorious/core";

import type { TrustGate } from "../trust/trust-gate.ts";
import { AtticError } from "./attic-error.ts";
import { bodyBytesRead, drainBody } from "./body.ts";
import { type ErrorContext, toErrorResponse } from "./error-response.ts";
import type { RouteFamily } from "./exchange.ts";
import { createRouter, type Route } from "./router.ts";

/** A request that has been answered, or given up. */
export interface AnsweredRequest {
  readonly method: string;
  /** The pattern of its route, or `none`. */
  readonly route: string;
  readonly status: number;
  /** Whether all of the answer went out. */
  readonly isComplete: boolean;
  readonly durationMs: number;
  /** Of its body. */
  readonly bytesReceived: number;
  /** Over the network, head included. */
  readonly bytesSent: number;
}

export interface RequestHandlerOptions {
  readonly routes: readonly Route[];
  readonly gate: TrustGate;
  readonly logger: Logger;
  readonly logsRequests: boolean;
  readonly onAnswered: (request: AnsweredRequest) => void;
  /** Empty accepts every host. */
  readonly allowedHosts: readonly string[];
  /** Aborts requests that are still running when the server must end. */
  readonly signal: AbortSignal;
}

/** What a client may still send after it was answered, before its connection is closed. */
const DRAIN = { maxSizeBytes: 64 * 2 ** 20, timeoutMs: 10_000 };

/** Others come from strangers, who must not be able to make up labels. */
const KNOWN_METHODS = new Set(["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"]);

/** Answers requests: finds the route, identifies the caller, runs the handler, turns errors into answers. */
export function createRequestHandler(
  options: RequestHandlerOptions,
): (request: IncomingMessage, response: ServerResponse) => void {
  const { gate, logger } = options;
  const findRoute = createRouter(options.routes);

  const answer = async (
    request: IncomingMessage,
    response: ServerResponse,
    requestId: string,
    signal: AbortSignal,
    onRoute: (pattern: string) => void,
  ): Promise<void> => {
    let family: RouteFamily = "attic";
    try {
      const { pathname, query } = splitTarget(request.url ?? "/");
      family = pathname.startsWith("/_flywheel/") ? "flywheel" : "attic";
      const match = findRoute(request.method ?? "GET", pathname);
      if (match.kind !== "found" || match.route.anyHost !== true) {
        requireHost(request, options.allowedHosts);
      }
      if (match.kind === "not-found") {
        throw new AtticError("NotFound", "NOT_FOUND", `There is nothing at ${shorten(pathname)}`);
      }
      if (match.kind === "wrong-method") {
        family = match.family;
        response.setHeader("allow", match.allow);
        throw new CacheError(
          "METHOD_NOT_ALLOWED",
          `${request.method} does not work on ${shorten(pathname)}`,
          {
            hint: `Allowed: ${match.allow}.`,
          },
        );
      }
      family = match.route.family;
      onRoute(match.route.pattern);
      const caller = await gate.identify(request.headers.authorization);
      await match.route.handler({
        request,
        response,
        params: match.params,
        query: new URLSearchParams(query),
        signal,
        requestId,
        logger,
        caller,
      });
      // What nobody read would stay in front of the connection's next request for ever.
      await drainBody(request, DRAIN);
    } catch (error) {
      const { "user-agent": userAgent } = request.headers;
      sendError(request, response, error, { family, requestId, userAgent }, logger);
    }
  };

  return (request, response) => {
    const startedAtMs = performance.now();
    const requestId = randomBytes(8).toString("hex");
    const ended = new AbortController();
    const { socket } = request;
    const bytesWrittenBefore = socket.bytesWritten;
    let route = "none";
    response.setHeader("x-request-id", requestId);
    // A long silence is the client's fault only while it is the client's turn.
    response.on("timeout", () => {
      const isOurTurn = request.complete && !response.headersSent;
      if (!isOurTurn) request.socket.destroy();
    });
    response.once("close", () => {
      if (!response.writableFinished)
        ended.abort(new CacheError("CANCELLED", "The client went away"));
      options.onAnswered({
        method: KNOWN_METHODS.has(request.method ?? "") ? (request.method ?? "") : "other",
        route,
        status: response.statusCode,
        isComplete: response.writableFinished,
        durationMs: performance.now() - startedAtMs,
        bytesReceived: bodyBytesRead(request),
        bytesSent: socket.bytesWritten - bytesWrittenBefore,
      });
      if (!options.logsRequests) return;
      logger.info("request", {
        requestId,
        method: request.method,
        path: shorten((request.url ?? "").split("?", 1)[0] ?? ""),
        status: response.statusCode,
        complete: response.writableFinished,
        durationMs: Math.round(performance.now() - startedAtMs),
        userAgent: request.headers["user-agent"],
      });
    });
    const signal = AbortSignal.any([ended.signal, options.signal]);
    void answer(request, response, requestId, signal, (pattern) => {
      route = pattern;
    });
  };
}

function sendError(
  request: IncomingMessage,
  response: ServerResponse,
  error: unknown,
  context: ErrorContext,
  logger: Logger,
): void {
  const { status, headers, body, isInternal } = toErrorResponse(error, context);
  const level = isInternal ? "error" : "debug";
  logger[level](body.message, { requestId: context.requestId, code: body.error, error });
  // An answer under way cannot be taken back: cutting it is the only way to say that it is wrong.
  if (response.headersSent) {
    response.destroy();
    return;
  }
  if (request.destroyed && !request.complete) {
    response.destroy();
    return;
  }
  const text = JSON.stringify(body);
  const isStillSending = !request.complete;
  response.writeHead(status, {
    ...headers,
    "content-type": "application/json",
    "content-length": Buffer.byteLength(text),
    "cache-control": "no-store",
    ...(isStillSending ? { connection: "close" } : {}),
  });
  const answer = request.method === "HEAD" ? "" : text;
  if (!isStillSending) {
    response.end(answer);
    return;
  }
  response.write(answer);
  // Ending the answer closes the connection, and a client in the middle of its body would see only that.
  void drainBody(request, DRAIN).then(() => response.end());
}

function splitTarget(target: string): { readonly pathname: string; readonly query: string } {
  // Absolute-form targets are legal towards any server.
  const path = /^https?:\/\//i.test(target) ? target.replace(/^https?:\/\/[^/?#]*/i, "") : target;
  const mark = path.indexOf("?");
  const pathname = mark < 0 ? path : path.slice(0, mark);
  return {
    pathname: pathname === "" ? "/" : pathname,
    query: mark < 0 ? "" : path.slice(mark + 1),
  };
}

function requireHost({ headers }: IncomingMessage, allowedHosts: readonly string[]): void {
  if (headers.host === undefined) {
    throw new CacheError("INVALID", "The request has no Host header", {
      hint: "Name the server's address in it.",
    });
  }
  if (allowedHosts.length === 0 || allowedHosts.includes(headers.host)) return;
  throw new CacheError("INVALID", "Bad Host", {
    hint: "Use one of the addresses in allowedHosts, port included.",
  });
}

function shorten(path: string): string {
  return path.length > 200 ? `${path.slice(0, 200)}…` : path;
}
