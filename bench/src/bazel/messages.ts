/** The requests of the bench, encoded by hand: a bench makes hundreds of thousands of them before it starts. */

import { type BlobKind, contentOf, sha256 } from "./population.ts";

export const METHODS = {
  getActionResult: "/build.bazel.remote.execution.v2.ActionCache/GetActionResult",
  updateActionResult: "/build.bazel.remote.execution.v2.ActionCache/UpdateActionResult",
  findMissing: "/build.bazel.remote.execution.v2.ContentAddressableStorage/FindMissingBlobs",
  batchUpdate: "/build.bazel.remote.execution.v2.ContentAddressableStorage/BatchUpdateBlobs",
  read: "/google.bytestream.ByteStream/Read",
  write: "/google.bytestream.ByteStream/Write",
} as const;

/** What Bazel puts into one WriteRequest. */
const WRITE_BYTES = 16 * 1024;

export function digest(hash: string, sizeBytes: number): Buffer {
  return Buffer.concat([field(1, Buffer.from(hash, "latin1")), varintField(2, sizeBytes)]);
}

export function getActionResult(instance: string, action: Buffer): Buffer {
  return Buffer.concat([text(1, instance), field(2, action)]);
}

export function findMissing(instance: string, digests: readonly Buffer[]): Buffer {
  return Buffer.concat([text(1, instance), ...digests.map((each) => field(2, each))]);
}

/** The bytes of an answer that names these digests, with the prefix of its message. */
export function missingBytes(digests: readonly Buffer[]): number {
  return digests.reduce((sum, each) => sum + field(2, each).length, 5);
}

export function updateActionResult(instance: string, action: Buffer, result: Buffer): Buffer {
  return Buffer.concat([text(1, instance), field(2, action), field(3, result)]);
}

/** A result of two files, as a compiler leaves them. */
export function actionResult(id: number, files: readonly [Buffer, Buffer]): Buffer {
  const names = [
    `bazel-out/k8-fastbuild/bin/pkg${id}/lib.o`,
    `bazel-out/k8-fastbuild/bin/pkg${id}/lib.d`,
  ];
  return Buffer.concat(
    files.map((file, place) =>
      field(2, Buffer.concat([text(1, names[place] ?? ""), field(2, file)])),
    ),
  );
}

export function batchUpdate(
  instance: string,
  blobs: readonly { readonly digest: Buffer; readonly content: Buffer }[],
): Buffer {
  return Buffer.concat([
    text(1, instance),
    ...blobs.map((blob) =>
      field(2, Buffer.concat([field(1, blob.digest), field(2, blob.content)])),
    ),
  ]);
}

/** A blob of a kind and number with its digest. */
export function blobOf(
  kind: BlobKind,
  id: number,
): { digest: Buffer; hash: string; content: Buffer } {
  const content = contentOf(kind, id);
  const hash = sha256(content);
  return { digest: digest(hash, content.length), hash, content };
}

export function readRequest(instance: string, name: string): Buffer {
  return text(1, prefixed(instance, name));
}

/** All messages of an upload. */
export function writeRequests(instance: string, name: string, content: Buffer): Buffer[] {
  const messages: Buffer[] = [];
  for (let at = 0; at < content.length; at += WRITE_BYTES) {
    const piece = content.subarray(at, at + WRITE_BYTES);
    messages.push(
      Buffer.concat([
        at === 0 ? text(1, prefixed(instance, name)) : Buffer.alloc(0),
        at === 0 ? Buffer.alloc(0) : varintField(2, at),
        at + piece.length === content.length ? varintField(3, 1) : Buffer.alloc(0),
        field(10, piece),
      ]),
    );
  }
  return messages;
}

function prefixed(instance: string, name: string): string {
  return instance === "" ? name : `${instance}/${name}`;
}

function text(number: number, value: string): Buffer {
  return value === "" ? Buffer.alloc(0) : field(number, Buffer.from(value));
}

function field(number: number, value: Buffer): Buffer {
  return Buffer.concat([varint(number * 8 + 2), varint(value.length), value]);
}

function varintField(number: number, value: number): Buffer {
  return Buffer.concat([varint(number * 8), varint(value)]);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128);
  return Buffer.from([...bytes, rest]);
}
