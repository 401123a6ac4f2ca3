import {
  Compressor_Value,
  DigestFunction_Value,
} from "./generated/build/bazel/remote/execution/v2/remote_execution_pb.ts";
import { VARINT, type WireReader } from "./wire-reader.ts";

/** How the bytes of a blob are encoded on the wire. */
export type BlobCompressor = "identity" | "zstd";

/** Refuses a request for digests that are not SHA-256; one that does not say means that. */
export function requireSha256(reader: WireReader): void {
  const value = reader.int32();
  if (value === DigestFunction_Value.UNKNOWN || value === DigestFunction_Value.SHA256) return;
  throw reader.invalidField(
    "digest_function",
    `${nameOf(DigestFunction_Value, value)} is not supported, only SHA256 is`,
  );
}

/** Reads how a blob is encoded. */
export function readCompressor(reader: WireReader): BlobCompressor {
  const value = reader.int32();
  if (value === Compressor_Value.IDENTITY) return "identity";
  if (value === Compressor_Value.ZSTD) return "zstd";
  throw reader.invalidField(
    "compressor",
    `${nameOf(Compressor_Value, value)} is not supported, only IDENTITY and ZSTD are`,
  );
}

/** Hands on every value of a repeated enum, which may come one by one or packed. */
export function readEnums(reader: WireReader, tag: number, take: (value: number) => void): void {
  if ((tag & 7) === VARINT) return take(reader.int32());
  const outer = reader.enter();
  while (reader.offset < reader.end) take(reader.int32());
  reader.leave(outer);
}

function nameOf(values: Readonly<Record<string, string | number>>, value: number): string {
  return Object.entries(values).find(([, held]) => held === value)?.[0] ?? `value ${value}`;
}
