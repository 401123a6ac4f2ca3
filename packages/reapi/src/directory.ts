import { DigestFields } from "./digest-fields.ts";
import { DigestList } from "./digest-list.ts";
import { NodePropertiesSchema } from "./generated/build/bazel/remote/execution/v2/remote_execution_pb.ts";
import { checkShape, shapeOf } from "./message-shape.ts";
import { checkName, checkTarget } from "./output-path.ts";
import { WireReader } from "./wire-reader.ts";

const TREE = { root: 0x0a, children: 0x12 };
const TREE_KNOWN = (1 << 1) | (1 << 2);
const DIRECTORY = { files: 0x0a, directories: 0x12, symlinks: 0x1a, properties: 0x2a };
const DIRECTORY_KNOWN = (1 << 1) | (1 << 2) | (1 << 3) | (1 << 5);
const NODE = { name: 0x0a, digest: 0x12, isExecutable: 0x20, target: 0x12 };
const FILE = { properties: 0x32 };
const FILE_KNOWN = (1 << 1) | (1 << 2) | (1 << 4) | (1 << 6);
const SUBDIRECTORY_KNOWN = (1 << 1) | (1 << 2);
const SYMLINK = { properties: 0x22 };
const SYMLINK_KNOWN = (1 << 1) | (1 << 2) | (1 << 4);

const PROPERTIES_SHAPE = shapeOf(NodePropertiesSchema);

/**
 * Walks a `Tree`, an output directory in one message, and adds the digest of every file in it to
 * `files`. Its subdirectories are in the tree itself and need not be in the CAS.
 *
 * @returns How many directories it has, the root included.
 * @throws {CacheError} `INVALID` when it is malformed; what was found until then has been added.
 */
export function readTree(message: Uint8Array, files: DigestList): { directories: number } {
  const reader = new WireReader(message, "Tree");
  const digest = new DigestFields();
  const subdirectories = new DigestList();
  let directories = 0;
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === TREE.root || tag === TREE.children) {
      const outer = reader.enter();
      readEntries(reader, digest, files, subdirectories);
      reader.leave(outer);
      subdirectories.clear();
      directories++;
    } else reader.skip(tag, TREE_KNOWN);
  }
  return { directories };
}

/**
 * Walks a `Directory` and adds the digests of its files to `files` and those of its subdirectories,
 * which are `Directory` messages too, to `directories`.
 *
 * @throws {CacheError} `INVALID` when it is malformed; what was found until then has been added.
 */
export function readDirectory(
  message: Uint8Array,
  files: DigestList,
  directories: DigestList,
): void {
  readEntries(new WireReader(message, "Directory"), new DigestFields(), files, directories);
}

function readEntries(
  reader: WireReader,
  digest: DigestFields,
  files: DigestList,
  directories: DigestList,
): void {
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === DIRECTORY.files) readFile(reader, digest, files);
    else if (tag === DIRECTORY.directories) readSubdirectory(reader, digest, directories);
    else if (tag === DIRECTORY.symlinks) readSymlink(reader);
    else if (tag === DIRECTORY.properties) checkShape(reader, PROPERTIES_SHAPE);
    else reader.skip(tag, DIRECTORY_KNOWN);
  }
}

function readFile(reader: WireReader, digest: DigestFields, files: DigestList): void {
  let hasName = false;
  digest.clear();
  const outer = reader.enter();
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === NODE.name) {
      checkName(reader, "files.name");
      hasName = true;
    } else if (tag === NODE.digest) digest.merge(reader);
    else if (tag === NODE.isExecutable) reader.bool();
    else if (tag === FILE.properties) checkShape(reader, PROPERTIES_SHAPE);
    else reader.skip(tag, FILE_KNOWN);
  }
  reader.leave(outer);
  if (!hasName) throw reader.invalidField("files.name", "the name is missing");
  digest.pushTo(files, reader, "files.digest");
}

function readSubdirectory(reader: WireReader, digest: DigestFields, directories: DigestList): void {
  let hasName = false;
  digest.clear();
  const outer = reader.enter();
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === NODE.name) {
      checkName(reader, "directories.name");
      hasName = true;
    } else if (tag === NODE.digest) digest.merge(reader);
    else reader.skip(tag, SUBDIRECTORY_KNOWN);
  }
  reader.leave(outer);
  if (!hasName) throw reader.invalidField("directories.name", "the name is missing");
  digest.pushTo(directories, reader, "directories.digest");
}

function readSymlink(reader: WireReader): void {
  let hasName = false;
  let hasTarget = false;
  const outer = reader.enter();
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === NODE.name) {
      checkName(reader, "symlinks.name");
      hasName = true;
    } else if (tag === NODE.target) {
      checkTarget(reader, "symlinks.target");
      hasTarget = true;
    } else if (tag === SYMLINK.properties) checkShape(reader, PROPERTIES_SHAPE);
    else reader.skip(tag, SYMLINK_KNOWN);
  }
  reader.leave(outer);
  if (!hasName) throw reader.invalidField("symlinks.name", "the name is missing");
  if (!hasTarget) throw reader.invalidField("symlinks.target", "the target is missing");
}
