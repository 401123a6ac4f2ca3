import { type DescMessage, type MessageShape, create, toBinary } from "@bufbuild/protobuf";
import { isCacheError } from "@glorious/core";
import fc from "fast-check";

import {
  ActionResultSchema,
  DirectorySchema,
  type Digest,
  DigestFunction_Value,
  DigestSchema,
} from "../src/index.ts";
import { randomFrom, scramble } from "./scramble.ts";

const hashes: fc.Arbitrary<string> = fc
  .uint8Array({ minLength: 32, maxLength: 32 })
  .map((bytes) => Buffer.from(bytes).toString("hex"));

const sizes = fc.oneof(fc.nat(300), fc.nat(), fc.maxSafeNat()).map(BigInt);

export const digestMessages: fc.Arbitrary<Digest> = fc
  .record({ hash: hashes, sizeBytes: sizes })
  .map((parts) => create(DigestSchema, parts));

export const digestFunctions: fc.Arbitrary<DigestFunction_Value> = fc.constantFrom(
  DigestFunction_Value.UNKNOWN,
  DigestFunction_Value.SHA256,
);

/** Text that UTF-8 can hold, long and odd ones among it. */
export const texts: fc.Arbitrary<string> = fc.oneof(
  fc.string({ maxLength: 30 }),
  fc.string({ unit: "grapheme", maxLength: 10 }),
  fc.constant("tenant+view/sub"),
);

const names = fc
  .oneof(
    fc.string({ unit: "grapheme", minLength: 1, maxLength: 12 }),
    fc.constantFrom("lib.a", "…", "a.b", "..."),
  )
  .filter((name) => !/[/\0]/.test(name) && name !== "." && name !== ".." && name.isWellFormed());

const paths = fc
  .tuple(fc.constantFrom("", "", "../", "../../"), fc.array(names, { minLength: 1, maxLength: 4 }))
  .map(([climb, parts]) => climb + parts.join("/"))
  .filter((path) => !/^[A-Za-z]:[/\\]|^\\/.test(path));

const targets = fc.oneof(paths, fc.constantFrom("/absolute", "..", "a//b"));

const nodeProperties = fc.record({
  properties: fc.array(fc.record({ name: texts, value: texts }), { maxLength: 2 }),
  mtime: fc.record({ seconds: fc.nat().map(BigInt), nanos: fc.nat(999) }),
  unixMode: fc.nat(0o7777),
});

const bytes = fc.uint8Array({ maxLength: 40 });

const symlinks = fc.array(
  fc.record({ path: paths, target: targets, nodeProperties }, { requiredKeys: ["path", "target"] }),
  { maxLength: 2 },
);

const outputFiles = fc.array(
  fc.record(
    {
      path: paths,
      digest: digestMessages,
      isExecutable: fc.boolean(),
      contents: bytes,
      nodeProperties,
    },
    { requiredKeys: ["path", "digest"] },
  ),
  { maxLength: 4 },
);

const outputDirectories = fc.array(
  fc
    .record(
      {
        path: fc.oneof(paths, fc.constant("")),
        treeDigest: digestMessages,
        rootDirectoryDigest: digestMessages,
        isTopologicallySorted: fc.boolean(),
      },
      { requiredKeys: ["path"] },
    )
    .filter((each) => each.treeDigest !== undefined || each.rootDirectoryDigest !== undefined),
  { maxLength: 3 },
);

const executionMetadata = fc.record({
  worker: texts,
  queuedTimestamp: fc.record({ seconds: fc.integer().map(BigInt), nanos: fc.nat(999) }),
  virtualExecutionDuration: fc.record({ seconds: fc.nat().map(BigInt) }),
  auxiliaryMetadata: fc.array(fc.record({ typeUrl: texts, value: bytes }), { maxLength: 2 }),
});

export const actionResults: fc.Arbitrary<MessageShape<typeof ActionResultSchema>> = fc
  .record(
    {
      outputFiles,
      outputDirectories,
      outputSymlinks: symlinks,
      outputFileSymlinks: symlinks,
      outputDirectorySymlinks: symlinks,
      exitCode: fc.oneof(fc.constantFrom(0, 1, -1), fc.integer()),
      stdoutRaw: bytes,
      stderrRaw: bytes,
      stdoutDigest: digestMessages,
      stderrDigest: digestMessages,
      executionMetadata,
    },
    { requiredKeys: [] },
  )
  .map((parts) => create(ActionResultSchema, parts));

export const directories: fc.Arbitrary<MessageShape<typeof DirectorySchema>> = fc
  .record(
    {
      files: fc.array(
        fc.record(
          { name: names, digest: digestMessages, isExecutable: fc.boolean(), nodeProperties },
          { requiredKeys: ["name", "digest"] },
        ),
        { maxLength: 5 },
      ),
      directories: fc.array(fc.record({ name: names, digest: digestMessages }), { maxLength: 3 }),
      symlinks: fc.array(
        fc.record(
          { name: names, target: targets, nodeProperties },
          { requiredKeys: ["name", "target"] },
        ),
        { maxLength: 2 },
      ),
      nodeProperties,
    },
    { requiredKeys: [] },
  )
  .map((parts) => create(DirectorySchema, parts));

/** A message together with one of its many valid encodings. */
export function encoded<Desc extends DescMessage>(
  schema: Desc,
  messages: fc.Arbitrary<MessageShape<Desc>>,
): fc.Arbitrary<{ message: MessageShape<Desc>; bytes: Buffer }> {
  return fc.tuple(messages, fc.integer()).map(([message, seed]) => ({
    message,
    bytes: scramble(schema, toBinary(schema, message), randomFrom(seed)),
  }));
}

/** Valid encodings with a few bytes changed, cut off or put in, and plain noise. */
export function damaged(encodings: fc.Arbitrary<{ bytes: Buffer }>): fc.Arbitrary<Buffer> {
  const changes = fc.array(fc.record({ place: fc.nat(), value: fc.nat(255), kind: fc.nat(2) }), {
    minLength: 1,
    maxLength: 4,
  });
  return fc.oneof(
    fc.uint8Array({ maxLength: 60 }).map((noise) => Buffer.from(noise)),
    fc.tuple(encodings, changes).map(([{ bytes: whole }, list]) => {
      const values = [...whole];
      for (const { place, value, kind } of list) {
        const at = place % (values.length + 1);
        if (kind === 0) values[at] = value;
        else if (kind === 1) values.splice(at, 0, value);
        else values.length = at;
      }
      return Buffer.from(values);
    }),
  );
}

/** Whether a message is taken; a refusal that is not an `INVALID` fails the test. */
export function accepted(read: () => unknown): boolean {
  try {
    read();
    return true;
  } catch (error) {
    if (!isCacheError(error, "INVALID")) throw error;
    return false;
  }
}
