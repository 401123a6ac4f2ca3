import { type WireWriter, bytesFieldSize, varintSize } from "./wire-writer.ts";

const CODE = 0x08;
const MESSAGE = 0x12;

/** How one part of a batch failed: a `google.rpc.Status`. */
export interface RpcStatus {
  /** One of gRPC's status codes, 1 to 16. */
  readonly code: number;
  readonly message: string;
}

/** Bytes of a status without the tag and length of the field that holds it; none for success. */
export function statusSize(status: RpcStatus | undefined): number {
  if (status === undefined) return 0;
  return 1 + varintSize(status.code) + bytesFieldSize(Buffer.byteLength(status.message));
}

/** Writes a status as a field with a one-byte tag. */
export function writeStatus(writer: WireWriter, tag: number, status: RpcStatus | undefined): void {
  writer.tag(tag);
  writer.varint(statusSize(status));
  if (status === undefined) return;
  writer.tag(CODE);
  writer.varint(status.code);
  writer.bytesField(MESSAGE, Buffer.from(status.message));
}
