import { randomBytes } from "node:crypto";

import { Capabilities, Compressor_Value, DigestFunction_Value, digestOf } from "@glorious/reapi";

import type { Answer } from "../../doctor/answer.ts";
import type { HttpSession } from "../../doctor/http-session.ts";
import type { GrpcAnswer } from "../snapshot.ts";
import type { GrpcSession } from "./grpc-session.ts";

/** Asks what the cache can do, as Bazel does before each build. @throws {CacheError} when there is no answer. */
export async function askGrpc(session: GrpcSession, instanceName: string): Promise<GrpcAnswer> {
  const { status, message, responses } = await session.call(Capabilities.method.getCapabilities, {
    instanceName,
  });
  const cache = responses[0]?.cacheCapabilities;
  return {
    status,
    message,
    capabilities:
      status !== 0 || cache === undefined
        ? undefined
        : {
            hasSha256: cache.digestFunctions.includes(DigestFunction_Value.SHA256),
            hasZstd: cache.supportedCompressors.includes(Compressor_Value.ZSTD),
            mayUpdate: cache.actionCacheUpdateCapabilities?.updateEnabled === true,
          },
  };
}

/** Asks for a result that nobody has. @throws {CacheError} when there is no answer. */
export async function askHttp(
  session: HttpSession,
  base: string,
  authorization: string | undefined,
): Promise<Answer> {
  const { hash } = digestOf(randomBytes(16));
  const { bytes: _, ...answer } = await session.send(`${base}/ac/${hash}`, {
    method: "GET",
    authorization,
  });
  return answer;
}
