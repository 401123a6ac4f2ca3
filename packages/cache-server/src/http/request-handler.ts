import { randomBytes } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";

import { CacheError, type Logger } from "@glorious/core";

import type { TrustGate } from "../trust/trust-gate.ts";
import { AtticError } from "./attic-error.ts";
import { bodyBytesRead, drainBody } from "./body.ts";
import { type ErrorContext, toErrorResponse } from "./error-response.ts";
import type { RouteFamily } from "./exchange.ts";
import { RequestRun, type RunContext } from "./request-run.ts";
import { createRouter, type Route } from "./router.ts";

/** A request that has been answered, or given up. */
export interface AnsweredRequest {
  readonly method: string;
  /** The pattern of its route, or `none`. */
  readonly route: string;
  readonly family: RouteFamily;
  /** The view that it names; it may not exist when the answer is none of success. */
  readonly view: string | undefined;
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
const KNOWN_METHODS = new Set([
  "GET",
  "HEAD",
  "PUT",
  "POST",
  "PATCH",
  "DELETE",
  "OPTIONS",
  "PROPFIND",
  "MKCOL",
]);

/** Answers requests: finds the route, identifies the caller, runs the handler, turns errors into answers. */
export function createRequestHandler(
  options: RequestHandlerOptions,
): (request: IncomingMessage, response: ServerResponse) => void {
  const { gate, logger } = options;
  const findRoute = createRouter(options.routes);
  const nextRequestId = createRequestIds();

  const onClosed = (run: RequestRun): void => {
    const { request, response } = run;
    const durationMs = performance.now() - run.startedAtMs;
    options.onAnswered({
      method: KNOWN_METHODS.has(request.method ?? "") ? (request.method ?? "") : "other",
      route: run.route,
      family: run.family,
      view: run.viewName ?? run.params["view"],
      status: response.statusCode,
      isComplete: response.writableFinished,
      durationMs,
      bytesReceived: bodyBytesRead(request),
      // A socket that breaks takes back what it had not sent yet, of earlier answers too.
      bytesSent: Math.max(0, request.socket.bytesWritten - run.bytesWrittenBefore),
    });
    if (!options.logsRequests) return;
    logger.info("request", {
      requestId: run.requestId,
      method: request.method,
      path: shorten((request.url ?? "").split("?", 1)[0] ?? ""),
      status: response.statusCode,
      complete: response.writableFinished,
      durationMs: Math.round(durationMs),
      userAgent: request.headers["user-agent"],
    });
  };
  const context: RunContext = { logger, stopping: options.signal, onClosed };

  const answer = async (run: RequestRun): Promise<void> => {
    const { request, response, requestId } = run;
    let family: RouteFamily = "attic";
    try {
      const { pathname, query } = splitTarget(request.url ?? "/");
      family = pathname.startsWith("/_flywheel/") ? "flywheel" : "attic";
      const match = findRoute(request.method ?? "GET", pathname);
      if (match.kind !== "found" || match.route.anyHost !== true) {
        requireHost(request, options.allowedHosts);
      }
      if (match.kind === "found") {
        family = match.route.family;
        run.family = family;
        run.route = match.route.pattern;
        run.params = match.params;
        if (recall(run, match.route)) return;
      }
      prepare(run);
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
      run.search = query;
      const { authorization } = request.headers;
      run.caller = gate.recall(authorization) ?? (await gate.identify(authorization));
      await match.route.handler(run);
      // What nobody read would stay in front of the connection's next request for ever.
      await drainBody(request, DRAIN);
    } catch (error) {
      prepare(run);
      const { "user-agent": userAgent } = request.headers;
      sendError(request, response, error, { family, requestId, userAgent }, logger);
    }
  };

  /** Answers from memory where route, caller and memory can: most narinfos are asked for again and again. */
  const recall = (run: RequestRun, route: Route): boolean => {
    if (route.recall === undefined || run.request.method !== "GET") return false;
    const caller = gate.recall(run.request.headers.authorization);
    if (caller === undefined) return false;
    run.caller = caller;
    return route.recall(run);
  };

  return (request, response) => {
    void answer(new RequestRun(request, response, nextRequestId(), context));
  };
}

/** What answers need that may take a while, or that a route writes itself. */
function prepare({ request, response, requestId }: RequestRun): void {
  if (response.headersSent || response.hasHeader("x-request-id")) return;
  response.setHeader("x-request-id", requestId);
  // A long silence is the client's fault only while it is the client's turn.
  response.on("timeout", () => {
    const isOurTurn = request.complete && !response.headersSent;
    if (!isOurTurn) request.socket.destroy();
  });
}

/** 16 hexadecimal digits: half of them tell processes apart, half of them count. */
function createRequestIds(): () => string {
  const prefix = randomBytes(4).toString("hex");
  let count = randomBytes(4).readUInt32BE();
  return () => {
    count = (count + 1) >>> 0;
    return prefix + count.toString(16).padStart(8, "0");
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
