import { fromBinary } from "@bufbuild/protobuf";

import {
  type RequestMetadata,
  RequestMetadataSchema,
} from "./generated/build/bazel/remote/execution/v2/remote_execution_pb.ts";

/** Where a call's metadata is looked for. */
export interface BinaryHeaders {
  /** The bytes of a field whose name ends in `-bin`. */
  getBinary(name: string): Uint8Array | undefined;
}

const METADATA_HEADER = "build.bazel.remote.execution.v2.requestmetadata-bin";

/** What a call's client says of itself; `undefined` when it says nothing, or nonsense. Nothing in it is proven. */
export function readRequestMetadata(headers: BinaryHeaders): RequestMetadata | undefined {
  const metadata = headers.getBinary(METADATA_HEADER);
  if (metadata === undefined) return undefined;
  try {
    return fromBinary(RequestMetadataSchema, metadata);
  } catch {
    // A client's word about itself is no reason to refuse it.
    return undefined;
  }
}
