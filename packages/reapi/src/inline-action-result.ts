import { DigestFields } from "./digest-fields.ts";
import type { DigestList } from "./digest-list.ts";
import type { InlineWishes } from "./get-action-result.ts";
import { WireReader } from "./wire-reader.ts";
import { WireWriter, bytesFieldSize, varintSize } from "./wire-writer.ts";

const OUTPUT_FILES = 0x12;
const STDOUT_RAW = 0x2a;
const STDOUT_DIGEST = 0x32;
const STDERR_RAW = 0x3a;
const STDERR_DIGEST = 0x42;
const FILE = { path: 0x0a, digest: 0x12, contents: 0x2a };

/** Where in the list of digests the content stands that a caller wishes to find in the answer. */
export interface InlineCandidates {
  readonly stdout: number | undefined;
  readonly stderr: number | undefined;
  readonly files: readonly (readonly [path: string, index: number])[];
}

/** Content to put into an `ActionResult`. */
export interface InlineContents {
  readonly stdout?: Uint8Array | undefined;
  readonly stderr?: Uint8Array | undefined;
  /** By path of the output file. */
  readonly files?: ReadonlyMap<string, Uint8Array> | undefined;
}

/**
 * Finds what of an `ActionResult` that {@link readActionResult} accepted a caller wishes to get with
 * it and does not yet; `digests` is cleared and filled with the digests of that.
 */
export function listInlineCandidates(
  message: Uint8Array,
  wishes: InlineWishes,
  digests: DigestList,
): InlineCandidates {
  const reader = new WireReader(message, "ActionResult");
  const stdout = new DigestFields();
  const stderr = new DigestFields();
  const paths = new Set(wishes.inlineOutputFiles);
  const files: [string, number][] = [];
  let hasStdout = false;
  let hasStderr = false;
  digests.clear();
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === OUTPUT_FILES && paths.size > 0) {
      const path = readWishedFile(reader, paths, digests);
      if (path !== undefined) files.push([path, digests.length - 1]);
    } else if (tag === STDOUT_DIGEST) stdout.merge(reader);
    else if (tag === STDERR_DIGEST) stderr.merge(reader);
    else if (tag === STDOUT_RAW) hasStdout = reader.view().length > 0;
    else if (tag === STDERR_RAW) hasStderr = reader.view().length > 0;
    else reader.skipValue(tag);
  }
  const add = (digest: DigestFields, field: string): number => {
    digest.pushTo(digests, reader, field);
    return digests.length - 1;
  };
  const wantsStdout = wishes.inlineStdout && !hasStdout && !stdout.isAbsent;
  const wantsStderr = wishes.inlineStderr && !hasStderr && !stderr.isAbsent;
  return {
    stdout: wantsStdout ? add(stdout, "stdout_digest") : undefined,
    stderr: wantsStderr ? add(stderr, "stderr_digest") : undefined,
    files,
  };
}

/** The path of an output file that is wished for, and whose digest has been added. */
function readWishedFile(
  reader: WireReader,
  paths: ReadonlySet<string>,
  digests: DigestList,
): string | undefined {
  const digest = new DigestFields();
  let path = "";
  let isInlined = false;
  const outer = reader.enter();
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === FILE.path) path = reader.text();
    else if (tag === FILE.digest) digest.merge(reader);
    else if (tag === FILE.contents) isInlined = reader.view().length > 0;
    else reader.skipValue(tag);
  }
  reader.leave(outer);
  if (isInlined || !paths.has(path)) return undefined;
  digest.pushTo(digests, reader, "output_files.digest");
  return path;
}

/**
 * Puts content into an `ActionResult`. The rest of it is copied as it is, fields that we do not
 * know included.
 */
export function inlineActionResult(message: Uint8Array, contents: InlineContents): Buffer {
  const reader = new WireReader(message, "ActionResult");
  const pieces: Uint8Array[] = [];
  let copied = 0;
  if (contents.files !== undefined && contents.files.size > 0) {
    for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
      if (tag !== OUTPUT_FILES) {
        reader.skipValue(tag);
        continue;
      }
      const lengthAt = reader.offset;
      const file = reader.view();
      const content = contents.files.get(pathOf(file));
      if (content === undefined) continue;
      const added = bytesField(FILE.contents, content);
      const size = new WireWriter(varintSize(file.length + added.length));
      size.varint(file.length + added.length);
      pieces.push(reader.bytes.subarray(copied, lengthAt), size.bytes, file, added);
      copied = reader.offset;
    }
  }
  pieces.push(reader.bytes.subarray(copied));
  // A field that comes twice has the later value.
  if (contents.stdout !== undefined) pieces.push(bytesField(STDOUT_RAW, contents.stdout));
  if (contents.stderr !== undefined) pieces.push(bytesField(STDERR_RAW, contents.stderr));
  return Buffer.concat(pieces);
}

function pathOf(file: Uint8Array): string {
  const reader = new WireReader(file, "OutputFile");
  let path = "";
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === FILE.path) path = reader.text();
    else reader.skipValue(tag);
  }
  return path;
}

function bytesField(tag: number, content: Uint8Array): Buffer {
  const writer = new WireWriter(bytesFieldSize(content.length));
  writer.bytesField(tag, content);
  return writer.bytes;
}
