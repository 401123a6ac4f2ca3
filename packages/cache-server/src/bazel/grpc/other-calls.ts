import { create, toBinary } from "@bufbuild/protobuf";
import { CacheError, isCacheError } from "@glorious/core";
import type { CallReceiver } from "@glorious/grpc";
import {
  Capabilities,
  describeCapabilities,
  failsWithoutUpdates,
  Fetch,
  FetchBlobRequestSchema,
  FetchBlobResponseSchema,
  GetCapabilitiesRequestSchema,
  Health,
  HealthCheckResponse_ServingStatus,
  HealthCheckResponseSchema,
  methodPath,
} from "@glorious/reapi";

import type { CallContext } from "./call-context.ts";
import { decode, receiveOne } from "./receivers.ts";

/** `build.bazel.remote.execution.v2.Capabilities`. */
export function capabilitiesCalls(
  context: CallContext,
  { maxBlobBytes }: { readonly maxBlobBytes: number },
): [path: string, receiver: CallReceiver][] {
  const get = receiveOne((call, message) => {
    const { instanceName } = decode(GetCapabilitiesRequestSchema, message);
    context.run(call, async () => {
      const { store } = await context.open(call, instanceName, "pull");
      const mayPush = await context.open(call, instanceName, "push").then(
        () => true,
        (error: unknown) => {
          if (isCacheError(error)) return false;
          throw error;
        },
      );
      const mayUpdate = (mayPush && !store.isFull) || failsWithoutUpdates(call.headers);
      call.respond(describeCapabilities({ mayUpdate, maxBlobBytes }));
    });
  });
  return [[methodPath(Capabilities, "getCapabilities"), get]];
}

/**
 * `build.bazel.remote.asset.v1.Fetch`, answered from the CAS: a download that names its SHA-256 needs no address.
 *
 * A failure is always one of the call: clients overlook the status within the answer.
 */
export function fetchCalls(context: CallContext): [path: string, receiver: CallReceiver][] {
  const fetchBlob = receiveOne((call, message) => {
    const request = decode(FetchBlobRequestSchema, message);
    context.run(call, async () => {
      const { scope } = await context.open(call, request.instanceName, "pull");
      const checksum = request.qualifiers.find(({ name }) => name === "checksum.sri")?.value;
      const key = /^sha256-(\S+)$/.exec(checksum ?? "")?.[1];
      const hash = Buffer.from(key ?? "", "base64");
      const blob = hash.length === 32 ? await scope.findBlobOfHash(hash) : undefined;
      if (blob === undefined) {
        throw new CacheError("NOT_FOUND", "No blob of that checksum is here", {
          hint: "Nothing is downloaded for anybody; use --experimental_remote_downloader_local_fallback.",
        });
      }
      const response = create(FetchBlobResponseSchema, {
        status: { code: 0 },
        uri: request.uris[0] ?? "",
        qualifiers: request.qualifiers.filter(({ name }) => name === "checksum.sri"),
        blobDigest: { hash: hash.toString("hex"), sizeBytes: BigInt(blob.sizeBytes) },
      });
      call.respond(toBinary(FetchBlobResponseSchema, response));
    });
  });
  return [[methodPath(Fetch, "fetchBlob"), fetchBlob]];
}

/** `grpc.health.v1.Health`, for everybody. */
export function healthCalls(): [path: string, receiver: CallReceiver][] {
  const status = HealthCheckResponse_ServingStatus.SERVING;
  const serving = toBinary(
    HealthCheckResponseSchema,
    create(HealthCheckResponseSchema, { status }),
  );
  return [[methodPath(Health, "check"), receiveOne((call) => call.respond(serving))]];
}
