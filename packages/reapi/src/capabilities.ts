import { create, toBinary } from "@bufbuild/protobuf";

import { FAST_CDC_PARAMS } from "./fast-cdc.ts";
import {
  Compressor_Value,
  DigestFunction_Value,
  ServerCapabilitiesSchema,
  SymlinkAbsolutePathStrategy_Value,
} from "./generated/build/bazel/remote/execution/v2/remote_execution_pb.ts";

/** What a batch may hold: a message of 4 MiB, less what stands around the blobs. */
export const MAX_BATCH_BYTES: number = 4 * 2 ** 20 - 128 * 1024;

/** What a caller is told of the cache. */
export interface CapabilityFacts {
  /** Bazel uploads nothing at all when not. */
  readonly mayUpdate: boolean;
  readonly maxBlobBytes: number;
}

/** A serialized `ServerCapabilities`. */
export function describeCapabilities({ mayUpdate, maxBlobBytes }: CapabilityFacts): Uint8Array {
  return toBinary(
    ServerCapabilitiesSchema,
    create(ServerCapabilitiesSchema, {
      cacheCapabilities: {
        digestFunctions: [DigestFunction_Value.SHA256],
        actionCacheUpdateCapabilities: { updateEnabled: mayUpdate },
        maxBatchTotalSizeBytes: BigInt(MAX_BATCH_BYTES),
        maxCasBlobSizeBytes: BigInt(maxBlobBytes),
        symlinkAbsolutePathStrategy: SymlinkAbsolutePathStrategy_Value.ALLOWED,
        supportedCompressors: [Compressor_Value.ZSTD],
        supportedBatchUpdateCompressors: [Compressor_Value.ZSTD],
        splitBlobSupport: true,
        spliceBlobSupport: true,
        fastCdc2020Params: {
          avgChunkSizeBytes: BigInt(FAST_CDC_PARAMS.averageBytes),
          seed: FAST_CDC_PARAMS.seed,
        },
      },
      lowApiVersion: { major: 2, minor: 0 },
      highApiVersion: { major: 2, minor: 12 },
    }),
  );
}
