import { DigestFields } from "./digest-fields.ts";
import { DigestList } from "./digest-list.ts";
import {
  ExecutedActionMetadataSchema,
  NodePropertiesSchema,
} from "./generated/build/bazel/remote/execution/v2/remote_execution_pb.ts";
import { checkShape, shapeOf } from "./message-shape.ts";
import { checkPath, checkTarget } from "./output-path.ts";
import { WireReader } from "./wire-reader.ts";

const TAG = {
  outputFiles: 0x12,
  outputDirectories: 0x1a,
  exitCode: 0x20,
  stdoutRaw: 0x2a,
  stdoutDigest: 0x32,
  stderrRaw: 0x3a,
  stderrDigest: 0x42,
  executionMetadata: 0x4a,
  outputFileSymlinks: 0x52,
  outputDirectorySymlinks: 0x5a,
  outputSymlinks: 0x62,
} as const;
const KNOWN = 0b1_1111_1111_1100;

const FILE = { path: 0x0a, digest: 0x12, isExecutable: 0x20, contents: 0x2a, properties: 0x3a };
const FILE_KNOWN = (1 << 1) | (1 << 2) | (1 << 4) | (1 << 5) | (1 << 7);
const DIRECTORY = { path: 0x0a, treeDigest: 0x1a, isSorted: 0x20, rootDigest: 0x2a };
const DIRECTORY_KNOWN = (1 << 1) | (1 << 3) | (1 << 4) | (1 << 5);
const SYMLINK = { path: 0x0a, target: 0x12, properties: 0x22 };
const SYMLINK_KNOWN = (1 << 1) | (1 << 2) | (1 << 4);

const METADATA_SHAPE = shapeOf(ExecutedActionMetadataSchema);
const PROPERTIES_SHAPE = shapeOf(NodePropertiesSchema);

/** Most outputs of one action that are taken. */
const MAX_OUTPUTS = 100_000;

/** What must be in the CAS for an `ActionResult` to be of use. */
export class ActionResultNeeds {
  /** Every blob that the result names: files, trees, root directories, standard output and error. */
  readonly blobs: DigestList = new DigestList();
  /** Those that are `Tree` messages, whose files are needed too. */
  readonly trees: DigestList = new DigestList();
  /** Those that are `Directory` messages, whose files and subdirectories are needed too. */
  readonly directories: DigestList = new DigestList();

  /** Forgets them all; the memory stays. */
  clear(): void {
    this.blobs.clear();
    this.trees.clear();
    this.directories.clear();
  }
}

/** What else is to know of an `ActionResult`. */
export interface ActionResultSummary {
  readonly exitCode: number;
  readonly outputFiles: number;
  readonly outputDirectories: number;
  readonly outputSymlinks: number;
  /** How many of the files have their content in the message itself. */
  readonly inlinedFiles: number;
}

/**
 * Walks an `ActionResult`, checks that it is one that every client can use, and collects what it
 * needs; `needs` is cleared first. No objects are made of the message.
 *
 * @throws {CacheError} `INVALID` when a path is not relative and normalised, a digest is no SHA-256
 * with a size, or anything in it is malformed; the text names the field.
 */
export function readActionResult(
  message: Uint8Array,
  needs: ActionResultNeeds,
): ActionResultSummary {
  const reader = new WireReader(message, "ActionResult");
  const stdout = new DigestFields();
  const stderr = new DigestFields();
  const digest = new DigestFields();
  let exitCode = 0;
  let outputFiles = 0;
  let outputDirectories = 0;
  let outputSymlinks = 0;
  let oldSymlinks = 0;
  let inlinedFiles = 0;
  needs.clear();
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    switch (tag) {
      case TAG.outputFiles:
        if (readFile(reader, `output_files[${outputFiles++}]`, digest, needs)) inlinedFiles++;
        break;
      case TAG.outputDirectories:
        readOutputDirectory(reader, `output_directories[${outputDirectories++}]`, digest, needs);
        break;
      case TAG.exitCode:
        exitCode = reader.int32();
        break;
      case TAG.stdoutRaw:
      case TAG.stderrRaw:
        reader.skipValue(tag);
        break;
      case TAG.stdoutDigest:
        stdout.merge(reader);
        break;
      case TAG.stderrDigest:
        stderr.merge(reader);
        break;
      case TAG.executionMetadata:
        checkShape(reader, METADATA_SHAPE);
        break;
      case TAG.outputFileSymlinks:
      case TAG.outputDirectorySymlinks:
        readSymlink(
          reader,
          `output_${tag === TAG.outputFileSymlinks ? "file" : "directory"}_symlinks`,
        );
        oldSymlinks++;
        break;
      case TAG.outputSymlinks:
        readSymlink(reader, `output_symlinks[${outputSymlinks++}]`);
        break;
      default:
        reader.skip(tag, KNOWN);
    }
    if (outputFiles + outputDirectories + outputSymlinks + oldSymlinks > MAX_OUTPUTS) {
      throw reader.invalid(`it has more than ${MAX_OUTPUTS} outputs`);
    }
  }
  if (!stdout.isAbsent) stdout.pushTo(needs.blobs, reader, "stdout_digest");
  if (!stderr.isAbsent) stderr.pushTo(needs.blobs, reader, "stderr_digest");
  return {
    exitCode,
    outputFiles,
    outputDirectories,
    // Bazel names every link twice, for servers old and new.
    outputSymlinks: Math.max(outputSymlinks, oldSymlinks),
    inlinedFiles,
  };
}

/** True when the content is in the message. */
function readFile(
  reader: WireReader,
  field: string,
  digest: DigestFields,
  needs: ActionResultNeeds,
): boolean {
  let hasPath = false;
  let isInlined = false;
  digest.clear();
  const outer = reader.enter();
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === FILE.path) {
      checkPath(reader, `${field}.path`, { mayBeEmpty: false });
      hasPath = true;
    } else if (tag === FILE.digest) digest.merge(reader);
    else if (tag === FILE.contents) isInlined = reader.view().length > 0;
    else if (tag === FILE.properties) checkShape(reader, PROPERTIES_SHAPE);
    else if (tag === FILE.isExecutable) reader.bool();
    else reader.skip(tag, FILE_KNOWN);
  }
  reader.leave(outer);
  if (!hasPath) throw reader.invalidField(field, "the path is missing");
  digest.pushTo(needs.blobs, reader, `${field}.digest`);
  return isInlined;
}

function readOutputDirectory(
  reader: WireReader,
  field: string,
  digest: DigestFields,
  needs: ActionResultNeeds,
): void {
  const root = new DigestFields();
  digest.clear();
  const outer = reader.enter();
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === DIRECTORY.path) checkPath(reader, `${field}.path`, { mayBeEmpty: true });
    else if (tag === DIRECTORY.treeDigest) digest.merge(reader);
    else if (tag === DIRECTORY.rootDigest) root.merge(reader);
    else if (tag === DIRECTORY.isSorted) reader.bool();
    else reader.skip(tag, DIRECTORY_KNOWN);
  }
  reader.leave(outer);
  // One of them is enough: which depends on the format that the command asked for.
  if (!digest.isAbsent || root.isAbsent) {
    digest.pushTo(needs.trees, reader, `${field}.tree_digest`);
    digest.pushTo(needs.blobs, reader, `${field}.tree_digest`);
  }
  if (root.isAbsent) return;
  root.pushTo(needs.directories, reader, `${field}.root_directory_digest`);
  root.pushTo(needs.blobs, reader, `${field}.root_directory_digest`);
}

function readSymlink(reader: WireReader, field: string): void {
  let hasPath = false;
  let hasTarget = false;
  const outer = reader.enter();
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === SYMLINK.path) {
      checkPath(reader, `${field}.path`, { mayBeEmpty: false });
      hasPath = true;
    } else if (tag === SYMLINK.target) {
      checkTarget(reader, `${field}.target`);
      hasTarget = true;
    } else if (tag === SYMLINK.properties) checkShape(reader, PROPERTIES_SHAPE);
    else reader.skip(tag, SYMLINK_KNOWN);
  }
  reader.leave(outer);
  if (!hasPath) throw reader.invalidField(field, "the path is missing");
  if (!hasTarget) throw reader.invalidField(field, "the target is missing");
}
