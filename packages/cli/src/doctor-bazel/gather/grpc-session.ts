import { connect as connectTcp, type Socket } from "node:net";
import { performance } from "node:perf_hooks";
import { connect as connectTls } from "node:tls";

import {
  create,
  type DescMessage,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { CacheError, formatDurationMs } from "@glorious/core";
import { attachSocket, createClientConnection, GRPC_STATUS } from "@glorious/grpc";

import { describeNetworkError } from "../../doctor/network-error.ts";

/** Options of {@link openGrpcSession}. */
export interface GrpcSessionOptions {
  /** `http:` is plain, `https:` TLS. */
  readonly url: URL;
  /** A call that takes longer is given up. */
  readonly timeoutMs: number;
  /** Authorities in PEM to trust instead of Node's own. */
  readonly ca: string | undefined;
  /** Secret. */
  readonly authorization: string | undefined;
  readonly signal: AbortSignal;
}

/** What a call came to. */
export interface GrpcResult<Output extends DescMessage> {
  /** A status code of gRPC. */
  readonly status: number;
  readonly message: string;
  readonly responses: ReadonlyArray<MessageShape<Output>>;
}

interface Method {
  readonly name: string;
  readonly parent: { readonly typeName: string };
  readonly input: DescMessage;
  readonly output: DescMessage;
}

/** A few calls over one connection, one after the other. */
export interface GrpcSession extends Disposable {
  /**
   * Sends one message and waits for the end of the call.
   *
   * @throws {CacheError} `UNAVAILABLE` or `TIMEOUT` when the server gives no answer of its own.
   */
  call<M extends Method>(
    method: M,
    request: MessageInitShape<M["input"]>,
  ): Promise<GrpcResult<M["output"]>>;
}

export function openGrpcSession(options: GrpcSessionOptions): GrpcSession {
  const { url, timeoutMs, authorization, signal } = options;
  const broken = Promise.withResolvers<never>();
  // Nobody may be waiting when it breaks.
  broken.promise.catch(() => {});
  const socket = openSocket(options);
  const onBroken = (reason: string): void => {
    broken.reject(new CacheError("UNAVAILABLE", reason));
  };
  const connection = attachSocket(socket, (onOutput, nowMs) =>
    createClientConnection(
      {
        onOutput,
        onEnd: ({ message }) => {
          onBroken(message === "" ? "it ended the connection" : message);
        },
      },
      nowMs,
    ),
  );
  socket.on("error", (error) => {
    onBroken(describeNetworkError(error));
  });
  socket.on("close", () => {
    onBroken("the connection was closed");
  });
  const onAbort = (): void => {
    broken.reject(new CacheError("CANCELLED", "Interrupted"));
  };
  signal.addEventListener("abort", onAbort, { once: true });

  const call = <M extends Method>(
    method: M,
    request: MessageInitShape<M["input"]>,
  ): Promise<GrpcResult<M["output"]>> => {
    const ended = Promise.withResolvers<GrpcResult<M["output"]>>();
    const responses: Array<MessageShape<M["output"]>> = [];
    const started = connection.startCall(
      {
        path: `/${method.parent.typeName}/${method.name}`,
        authority: url.host,
        scheme: url.protocol === "https:" ? "https" : "http",
        metadata: authorization === undefined ? [] : [["authorization", authorization]],
        timeoutMs,
      },
      {
        onMessage(_, message) {
          responses.push(fromBinary(method.output, message) as MessageShape<M["output"]>);
        },
        onEnd(_, { status, message, trailers }) {
          if (trailers !== undefined) ended.resolve({ status, message, responses });
          else if (status === GRPC_STATUS.DEADLINE_EXCEEDED) {
            const waited = formatDurationMs(timeoutMs);
            ended.reject(new CacheError("TIMEOUT", `the server was silent for ${waited}`));
          } else {
            ended.reject(new CacheError("UNAVAILABLE", message || `the call ended with ${status}`));
          }
        },
      },
      performance.now(),
    );
    if (started === undefined) {
      return Promise.reject(new CacheError("UNAVAILABLE", "it takes no calls any more"));
    }
    started.sendMessage(toBinary(method.input, create(method.input, request)));
    started.halfClose();
    return Promise.race([ended.promise, broken.promise]);
  };
  return {
    call,
    [Symbol.dispose]() {
      signal.removeEventListener("abort", onAbort);
      socket.destroy();
    },
  };
}

function openSocket({ url, ca }: GrpcSessionOptions): Socket {
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1");
  const isSecure = url.protocol === "https:";
  const port = url.port === "" ? (isSecure ? 443 : 80) : Number(url.port);
  if (!isSecure) return connectTcp({ host, port });
  return connectTls({
    host,
    port,
    ALPNProtocols: ["h2"],
    // A bare address is no name to ask for.
    ...(/^[\d.]+$|:/.test(host) ? {} : { servername: host }),
    ...(ca === undefined ? {} : { ca }),
  });
}
