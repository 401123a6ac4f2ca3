import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";

import { describeError, type Logger } from "@glorious/core";

import type { Credentials } from "../credentials.ts";
import type { Statistics } from "../statistics.ts";
import type { KeptBlobs } from "./kept-blobs.ts";
import type { PassingFace } from "./passing-face.ts";

/** Options of {@link startBazelFace}. */
export interface BazelFaceOptions {
  /** What local callers have to show; URL-safe. Secret. */
  readonly secret: string;
  readonly upstream: {
    /** `grpc:`, `grpcs:`, `http:` or `https:` */
    readonly grpc: URL;
    /** The cache's own address, without a view. */
    readonly http: URL;
    /** View, or view and what lies below it. */
    readonly instanceName: string;
  };
  readonly credentials: Credentials;
  /** For blobs of builds without the bytes; made when it is not there, removed in the end. */
  readonly spoolDirectory: string;
  /** How much of them is kept; 0 for a build that downloads everything at once. Default 512 MiB. */
  readonly spoolBytes?: number;
  readonly statistics: Statistics;
  readonly logger: Logger;
}

/** A remote cache on the loopback interface that is always there. */
export interface BazelFace extends AsyncDisposable {
  /** `grpc://127.0.0.1:<port>` */
  readonly grpc: string;
  /** `http://127.0.0.1:<port>/<secret>/<view>` */
  readonly http: string;
  /** What is kept for the build in case that the cache goes away. */
  readonly kept: KeptBlobs["figures"];
}

const NOTHING_KEPT: KeptBlobs["figures"] = { blobs: 0, bytes: 0, unkeptBlobs: 0 };

/**
 * Starts passing calls on; it takes them when the promise resolves, whether the cache can be reached or not.
 *
 * What speaks Bazel's protocol is loaded for the first connection: it takes as long as the rest of an agent, which a job's
 * start would wait for, and many a job runs no Bazel.
 */
export async function startBazelFace(options: BazelFaceOptions): Promise<BazelFace> {
  const { logger, secret } = options;
  await using resources = new AsyncDisposableStack();
  let passing: PassingFace | undefined;
  let opening: Promise<PassingFace> | undefined;
  resources.defer(async () => (await opening?.catch(() => undefined))?.[Symbol.asyncDispose]());
  const open = async (): Promise<PassingFace> => {
    const { openPassingFace } = await import("./passing-face.ts");
    passing = await openPassingFace(options);
    return passing;
  };
  const port = await listen(resources, (socket) => {
    if (passing !== undefined) return passing.accept(socket);
    opening ??= open();
    opening.then(
      (face) => {
        if (!socket.destroyed) face.accept(socket);
      },
      (error: unknown) => {
        opening = undefined;
        logger.error("the Bazel face cannot be opened", { error: describeError(error) });
        socket.destroy();
      },
    );
  });
  const view = options.upstream.instanceName.split("/", 1)[0] ?? "";
  const owned = resources.move();
  return {
    grpc: `grpc://127.0.0.1:${port}`,
    http: `http://127.0.0.1:${port}/${secret}/${view}`,
    get kept() {
      return passing?.kept ?? NOTHING_KEPT;
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function listen(
  resources: AsyncDisposableStack,
  accept: (socket: Socket) => void,
): Promise<number> {
  const sockets = new Set<Socket>();
  const server = createServer({ noDelay: true }, (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    // A client's going away is its own matter, also before anybody looks at what it sends.
    socket.on("error", () => {});
    accept(socket);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  resources.defer(async () => {
    const closed = once(server, "close");
    server.close();
    for (const socket of sockets) socket.destroy();
    await closed;
  });
  return (server.address() as AddressInfo).port;
}
