// Makes fixtures/wire-contract.txt from interface files that others compiled into their programs:
//   node --conditions=source test/make-wire-contract.ts <program> <file.binpb>... > test/fixtures/wire-contract.txt
// The program is Debian's buildbox-casd (1.4.30 when the fixture was made), which carries the
// descriptors of the published files; the others are descriptor sets, here of the health service in
// npm's grpc-health-check 2.1.0 (`buf build --as-file-descriptor-set -o health.binpb`).
import { readFileSync } from "node:fs";
import process from "node:process";

import { fromBinary } from "@bufbuild/protobuf";
import {
  type FileDescriptorProto,
  FileDescriptorProtoSchema,
  FileDescriptorSetSchema,
} from "@bufbuild/protobuf/wkt";

import { wireFacts } from "./wire-facts.ts";

const EMBEDDED = [
  "build/bazel/remote/execution/v2/remote_execution.proto",
  "build/bazel/remote/asset/v1/remote_asset.proto",
  "build/bazel/semver/semver.proto",
  "google/bytestream/bytestream.proto",
  "google/rpc/status.proto",
];
/** `syntax`, the last field that a compiler writes into these files. */
const SYNTAX_FIELD = 12;

/** Reads the descriptor that starts with its own name, somewhere in a program. */
function embeddedFile(program: Buffer, name: string): FileDescriptorProto {
  const start = program.indexOf(Buffer.from([0x0a, name.length, ...Buffer.from(name)]));
  if (start === -1) throw new Error(`no descriptor of ${name} in the program`);
  let offset = start;
  const readVarint = (): number => {
    for (let value = 0, shift = 1; ; shift *= 128) {
      const byte = program.readUInt8(offset++);
      value += (byte & 0x7f) * shift;
      if (byte < 0x80) return value;
    }
  };
  for (;;) {
    const field = readVarint() >>> 3;
    const sizeBytes = readVarint();
    offset += sizeBytes;
    if (field === SYNTAX_FIELD) break;
  }
  return fromBinary(FileDescriptorProtoSchema, program.subarray(start, offset));
}

const [programFile, ...setFiles] = process.argv.slice(2);
if (programFile === undefined) throw new Error("name the program that carries the descriptors");
const program = readFileSync(programFile);
const files = [
  ...EMBEDDED.map((name) => embeddedFile(program, name)),
  ...setFiles.flatMap((file) => fromBinary(FileDescriptorSetSchema, readFileSync(file)).file),
];
for (const file of files) process.stdout.write(`${wireFacts(file).join("\n")}\n`);
