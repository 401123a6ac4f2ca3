import { fromBinary } from "@bufbuild/protobuf";
import type { ServerCall } from "@glorious/grpc";
import { type RequestMetadata, RequestMetadataSchema } from "@glorious/reapi";

const METADATA_HEADER = "build.bazel.remote.execution.v2.requestmetadata-bin";

/** What a call's client says of itself; `undefined` when it says nothing, or nonsense. Nothing in it is proven. */
export function readRequestMetadata(
  headers: Pick<ServerCall["headers"], "getBinary">,
): RequestMetadata | undefined {
  const metadata = headers.getBinary(METADATA_HEADER);
  if (metadata === undefined) return undefined;
  try {
    return fromBinary(RequestMetadataSchema, metadata);
  } catch {
    // A client's word about itself is no reason to refuse it.
    return undefined;
  }
}
