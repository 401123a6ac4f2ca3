import { encodeCallHeaders, encodeGrpcBody, encodeTableToken } from "../bazel/load/frames.ts";
import type { ReplayOptions } from "../bazel/load/replay.ts";
import { RingBuilder } from "../bazel/load/ring.ts";
import { blobOf, getActionResult, METHODS } from "../bazel/messages.ts";
import { ACTIONS, PATHS, storePathHash } from "./fill-views.ts";

/** Who asks, and where. */
export interface Asker {
  readonly what: string;
  readonly view: string;
  /** Used in turn; none asks as nobody. */
  readonly tokens: readonly string[];
  /** A gRPC client that keeps HPACK's table sends an equal token in full only once. */
  readonly isRemembered?: boolean;
}

type Load = Pick<ReplayOptions, "protocol" | "rings" | "depth">;

const HTTP_CONNECTIONS = 16;
const GRPC_CONNECTIONS = 2;
const GRPC_DEPTH = 16;

/** Asks for every narinfo of the view, each connection for its share of them and of the tokens. */
export function layNarInfos({ view, tokens }: Asker): Load {
  const builders = makeBuilders(HTTP_CONNECTIONS);
  const rounds = Math.max(PATHS, tokens.length);
  for (let call = 0; call < rounds; call += 1) {
    const token = tokens[call % tokens.length];
    const head = [
      `GET /${view}/${storePathHash(call % PATHS)}.narinfo HTTP/1.1`,
      "Host: 127.0.0.1",
      ...(token === undefined ? [] : [`Authorization: Bearer ${token}`]),
    ];
    const bytes = Buffer.from(`${head.join("\r\n")}\r\n\r\n`);
    builders[call % HTTP_CONNECTIONS]?.addBytes([bytes], { minBytes: 100, maxBytes: Infinity });
  }
  return { protocol: "http1", rings: builders.map((builder) => builder.build()), depth: 1 };
}

/** Asks for every ActionResult of the view over gRPC. */
export function layActions({ view, tokens, isRemembered = false }: Asker): Load {
  const builders = makeBuilders(GRPC_CONNECTIONS);
  const rounds = Math.max(ACTIONS, tokens.length);
  for (let call = 0; call < rounds; call += 1) {
    const token = tokens[call % tokens.length];
    const request = getActionResult(view, blobOf("action", call % ACTIONS).digest);
    const isFirst = call < GRPC_CONNECTIONS;
    const headers = isRemembered
      ? Buffer.concat([
          encodeCallHeaders(METHODS.getActionResult, "127.0.0.1"),
          encodeTableToken(isFirst ? token : undefined),
        ])
      : encodeCallHeaders(METHODS.getActionResult, "127.0.0.1", token);
    builders[call % GRPC_CONNECTIONS]?.addCall(headers, encodeGrpcBody([request]), {
      minBytes: 5,
      maxBytes: Infinity,
    });
  }
  return { protocol: "h2c", rings: builders.map((builder) => builder.build()), depth: GRPC_DEPTH };
}

/** Brings identity tokens to the exchange, each once. */
export function layExchanges(identityTokens: readonly string[]): Load {
  const builders = makeBuilders(HTTP_CONNECTIONS);
  for (const [call, token] of identityTokens.entries()) {
    const body = JSON.stringify({ token });
    const head = [
      "POST /_flywheel/v1/exchange HTTP/1.1",
      "Host: 127.0.0.1",
      "Content-Type: application/json",
      `Content-Length: ${Buffer.byteLength(body)}`,
    ];
    const bytes = Buffer.from(`${head.join("\r\n")}\r\n\r\n${body}`);
    builders[call % HTTP_CONNECTIONS]?.addBytes([bytes], { minBytes: 100, maxBytes: Infinity });
  }
  return { protocol: "http1", rings: builders.map((builder) => builder.build()), depth: 1 };
}

function makeBuilders(count: number): RingBuilder[] {
  return Array.from({ length: count }, () => new RingBuilder());
}
