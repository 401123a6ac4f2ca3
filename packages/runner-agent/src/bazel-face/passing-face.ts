import { timingSafeEqual } from "node:crypto";
import { createServer as createHttpServer } from "node:http";
import type { Socket } from "node:net";
import { join } from "node:path";

import { create, toBinary } from "@bufbuild/protobuf";
import { createCircuitBreaker, type Logger } from "@glorious/core";
import {
  attachSocket,
  type CallReceiver,
  createServerConnection,
  GRPC_STATUS,
  type ServerCall,
  sniffProtocol,
  unary,
} from "@glorious/grpc";
import { HealthCheckResponse_ServingStatus, HealthCheckResponseSchema } from "@glorious/reapi";

import { createWaitingCalls, type FaceContext } from "./face-context.ts";
import { createForwardedMetadata } from "./forward-metadata.ts";
import { createHttpFace, type HttpFace } from "./http-face.ts";
import { createKeptBlobs, type KeptBlobs } from "./kept-blobs.ts";
import { METHODS } from "./methods.ts";
import { passCalls } from "./passed-call.ts";
import { passWrites } from "./passed-write.ts";
import type { BazelFaceOptions } from "./start-bazel-face.ts";
import { createUpstreamConnections } from "./upstream-connections.ts";

/** Passes calls on. */
export interface PassingFace extends AsyncDisposable {
  /** Serves a connection of Bazel's. */
  accept(socket: Socket): void;
  readonly kept: KeptBlobs["figures"] | undefined;
}

const DEFAULT_SPOOL_BYTES = 512 * 2 ** 20;
/** How long a call waits while the cache does nothing for it. */
const STALL_MS = 15_000;
const SNIFF_MS = 30_000;
/** Bazel is on the same machine: windows need not cover a distance. */
const LIMITS = { streamWindowBytes: 256 * 1024, connectionWindowBytes: 4 * 2 ** 20 };

/** Opens what stands behind the port, whether the cache can be reached or not. */
export async function openPassingFace(options: BazelFaceOptions): Promise<PassingFace> {
  const { statistics, logger, secret, credentials } = options;
  const { spoolBytes = DEFAULT_SPOOL_BYTES, spoolDirectory } = options;
  await using resources = new AsyncDisposableStack();
  const breaker = createCircuitBreaker({
    onChange: (state) => {
      logger.info("the cache's breaker changed", { state });
      statistics.breaker("bazel", state);
    },
  });
  const upstream = resources.use(
    createUpstreamConnections({
      url: options.upstream.grpc,
      onBroken: (reason) => logger.warn("a connection to the cache broke", { reason }),
    }),
  );
  const kept =
    spoolBytes === 0
      ? undefined
      : resources.use(
          await createKeptBlobs({
            directory: join(spoolDirectory, "blobs"),
            maxBytes: spoolBytes,
            upstream,
            token: () => credentials.token(),
            mayAsk: () => breaker.state === "closed",
            logger,
          }),
        );
  const context: FaceContext = {
    upstream,
    breaker,
    credentials,
    statistics,
    metadata: createForwardedMetadata(),
    kept,
    waiting: resources.use(createWaitingCalls(STALL_MS)),
    capabilities: undefined,
    logger,
  };
  const http = resources.use(createHttpFace(options.upstream.http, context));
  const accept = createAcceptor(resources, secret, receiversOf(context), http, logger);
  const owned = resources.move();
  return {
    accept,
    get kept() {
      return kept?.figures;
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function receiversOf(context: FaceContext): ReadonlyMap<string, CallReceiver> {
  const receivers = new Map<string, CallReceiver>();
  for (const [path, kind] of METHODS) {
    if (kind === "health") receivers.set(path, answerHealth());
    else receivers.set(path, kind === "write" ? passWrites(context) : passCalls(kind, context));
  }
  return receivers;
}

/** The face is well whatever the cache does. */
function answerHealth(): CallReceiver {
  const status = HealthCheckResponse_ServingStatus.SERVING;
  const message = toBinary(
    HealthCheckResponseSchema,
    create(HealthCheckResponseSchema, { status }),
  );
  return unary((call) => call.respond(message));
}

/** One port: the first bytes tell gRPC from HTTP/1.1. */
function createAcceptor(
  resources: AsyncDisposableStack,
  secret: string,
  receivers: ReadonlyMap<string, CallReceiver>,
  httpFace: HttpFace,
  logger: Logger,
): (socket: Socket) => void {
  const isSecret = compareWith(secret);
  const http = createHttpServer((request, response) => {
    const [, first = "", path = ""] = /^\/([^/]+)(\/.*)$/.exec(request.url ?? "") ?? [];
    if (isSecret(first)) httpFace.handle(request, response, path);
    else response.writeHead(404).end();
  });
  // A client's mistakes, and its going away, are its own matter.
  http.on("clientError", (_, socket) => socket.destroy());
  const onCall = (call: ServerCall): CallReceiver | undefined => {
    const shown = /^bearer (.+)$/i.exec(call.headers.get("authorization") ?? "")?.[1] ?? "";
    if (isSecret(shown)) return receivers.get(call.path);
    call.finish(GRPC_STATUS.UNAUTHENTICATED, "this cache is for another job");
    return REFUSED;
  };
  // What it does when it listens itself: from then on it looks after its connections' timeouts.
  http.emit("listening");
  resources.defer(() => void http.close(() => {}));
  return (socket) =>
    sniffProtocol(socket, SNIFF_MS, (protocol) => {
      if (protocol === "http1") http.emit("connection", socket);
      else {
        attachSocket(socket, (onOutput, nowMs) =>
          createServerConnection(
            {
              onOutput,
              onCall,
              limits: LIMITS,
              onError: (error, { path }) => logger.error("a call failed", { path, error }),
            },
            nowMs,
          ),
        );
      }
    });
}

const REFUSED: CallReceiver = { onMessage() {}, onHalfClose() {} };

/** Compares in a time that tells nothing of how much is right. */
function compareWith(secret: string): (shown: string) => boolean {
  const wanted = Buffer.from(secret);
  return (shown) => {
    const given = Buffer.from(shown);
    return given.length === wanted.length && timingSafeEqual(given, wanted);
  };
}
