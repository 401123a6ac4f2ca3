import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import {
  ActionResultSchema,
  BatchReadBlobsRequestSchema,
  BatchReadBlobsResponseSchema,
  BatchUpdateBlobsRequestSchema,
  BatchUpdateBlobsResponseSchema,
  Compressor_Value,
  type Digest,
  DigestFunction_Value,
  DigestList,
  FindMissingBlobsRequestSchema,
  FindMissingBlobsResponseSchema,
  GetActionResultRequestSchema,
  QueryWriteStatusRequestSchema,
  QueryWriteStatusResponseSchema,
  ReadRequestSchema,
  ReadResponseSchema,
  UpdateActionResultRequestSchema,
  WriteRequestSchema,
  WriteResponseSchema,
  encodeBatchReadBlobsResponse,
  encodeBatchUpdateBlobsResponse,
  encodeFindMissingBlobsResponse,
  encodeQueryWriteStatusResponse,
  encodeReadResponsePrefix,
  encodeWriteResponse,
  parseBatchReadBlobsRequest,
  parseBatchUpdateBlobsRequest,
  parseFindMissingBlobsRequest,
  parseGetActionResultRequest,
  parseQueryWriteStatusRequest,
  parseReadRequest,
  parseUpdateActionResultRequest,
  parseWriteRequest,
} from "../src/index.ts";
import {
  accepted,
  actionResults,
  damaged,
  digestFunctions,
  digestMessages,
  encoded,
  texts,
} from "./arbitraries.ts";

const bytes = fc.uint8Array({ maxLength: 200 });
const offsets = fc.oneof(fc.nat(), fc.maxSafeInteger()).map(BigInt);
const compressors = fc.constantFrom(Compressor_Value.IDENTITY, Compressor_Value.ZSTD);

const findMissing = encoded(
  FindMissingBlobsRequestSchema,
  fc
    .record({
      instanceName: texts,
      blobDigests: fc.array(digestMessages, { maxLength: 40 }),
      digestFunction: digestFunctions,
    })
    .map((parts) => create(FindMissingBlobsRequestSchema, parts)),
);
const getActionResult = encoded(
  GetActionResultRequestSchema,
  fc
    .record({
      instanceName: texts,
      actionDigest: digestMessages,
      inlineStdout: fc.boolean(),
      inlineStderr: fc.boolean(),
      inlineOutputFiles: fc.array(texts, { maxLength: 3 }),
      digestFunction: digestFunctions,
    })
    .map((parts) => create(GetActionResultRequestSchema, parts)),
);
const updateActionResult = encoded(
  UpdateActionResultRequestSchema,
  fc
    .record({
      instanceName: texts,
      actionDigest: digestMessages,
      actionResult: actionResults,
      resultsCachePolicy: fc.record({ priority: fc.integer() }),
      digestFunction: digestFunctions,
    })
    .map((parts) => create(UpdateActionResultRequestSchema, parts)),
);
const batchUpdate = encoded(
  BatchUpdateBlobsRequestSchema,
  fc
    .record({
      instanceName: texts,
      requests: fc.array(
        fc.record({ digest: digestMessages, data: bytes, compressor: compressors }),
        { maxLength: 5 },
      ),
      digestFunction: digestFunctions,
    })
    .map((parts) => create(BatchUpdateBlobsRequestSchema, parts)),
);
const batchRead = encoded(
  BatchReadBlobsRequestSchema,
  fc
    .record({
      instanceName: texts,
      digests: fc.array(digestMessages, { maxLength: 5 }),
      acceptableCompressors: fc.array(fc.constantFrom(0, 1, 2, 3), { maxLength: 3 }),
      digestFunction: digestFunctions,
    })
    .map((parts) => create(BatchReadBlobsRequestSchema, parts)),
);
const reads = encoded(
  ReadRequestSchema,
  fc
    .record({ resourceName: texts, readOffset: offsets, readLimit: offsets })
    .map((parts) => create(ReadRequestSchema, parts)),
);
const writes = encoded(
  WriteRequestSchema,
  fc
    .record({ resourceName: texts, writeOffset: offsets, finishWrite: fc.boolean(), data: bytes })
    .map((parts) => create(WriteRequestSchema, parts)),
);
const statusQueries = encoded(
  QueryWriteStatusRequestSchema,
  texts.map((resourceName) => create(QueryWriteStatusRequestSchema, { resourceName })),
);

const list = new DigestList();

function digestsIn(digests: DigestList): { hash: string; sizeBytes: bigint }[] {
  return Array.from({ length: digests.length }, (_, index) => ({
    hash: digests.hash(index),
    sizeBytes: BigInt(digests.sizeBytes(index)),
  }));
}

function plain(digests: readonly (Digest | undefined)[]): { hash: string; sizeBytes: bigint }[] {
  return digests.map((digest) => ({
    hash: digest?.hash ?? "",
    sizeBytes: digest?.sizeBytes ?? 0n,
  }));
}

describe("what is read is what the generated codec reads, however it was encoded", () => {
  test("FindMissingBlobsRequest", () => {
    fc.assert(
      fc.property(findMissing, ({ message, bytes: wire }) => {
        const { instanceName } = parseFindMissingBlobsRequest(wire, list);

        expect(instanceName).toBe(message.instanceName);
        expect(digestsIn(list)).toEqual(plain(message.blobDigests));
      }),
    );
  });

  test("GetActionResultRequest", () => {
    fc.assert(
      fc.property(getActionResult, ({ message, bytes: wire }) => {
        const fields = parseGetActionResultRequest(wire, list);

        const { instanceName, inlineStdout, inlineStderr, inlineOutputFiles } = message;
        expect(fields).toEqual({ instanceName, inlineStdout, inlineStderr, inlineOutputFiles });
        expect(digestsIn(list)).toEqual(plain([message.actionDigest]));
      }),
    );
  });

  test("UpdateActionResultRequest", () => {
    fc.assert(
      fc.property(updateActionResult, ({ message, bytes: wire }) => {
        const { instanceName, actionResult } = parseUpdateActionResultRequest(wire, list);

        expect(instanceName).toBe(message.instanceName);
        expect(digestsIn(list)).toEqual(plain([message.actionDigest]));
        const whole = fromBinary(UpdateActionResultRequestSchema, wire);
        expect(fromBinary(ActionResultSchema, actionResult)).toEqual(whole.actionResult);
      }),
    );
  });

  test("BatchUpdateBlobsRequest", () => {
    fc.assert(
      fc.property(batchUpdate, ({ message, bytes: wire }) => {
        const { instanceName, blobs } = parseBatchUpdateBlobsRequest(wire, list);

        expect(instanceName).toBe(message.instanceName);
        expect(digestsIn(list)).toEqual(plain(message.requests.map(({ digest }) => digest)));
        expect(blobs.map(({ data }) => [...data])).toEqual(
          message.requests.map(({ data }) => [...data]),
        );
        expect(blobs.map(({ compressor }) => compressor)).toEqual(
          message.requests.map(({ compressor }) =>
            compressor === Compressor_Value.ZSTD ? "zstd" : "identity",
          ),
        );
      }),
    );
  });

  test("BatchReadBlobsRequest", () => {
    fc.assert(
      fc.property(batchRead, ({ message, bytes: wire }) => {
        const { instanceName, acceptsZstd } = parseBatchReadBlobsRequest(wire, list);

        expect(instanceName).toBe(message.instanceName);
        expect(digestsIn(list)).toEqual(plain(message.digests));
        expect(acceptsZstd).toBe(message.acceptableCompressors.includes(Compressor_Value.ZSTD));
      }),
    );
  });

  test("ReadRequest, WriteRequest and QueryWriteStatusRequest", () => {
    fc.assert(
      fc.property(reads, writes, statusQueries, (read, write, query) => {
        const { resourceName, readOffset, readLimit } = parseReadRequest(read.bytes);
        expect(resourceName).toBe(read.message.resourceName);
        expect(BigInt(readOffset)).toBe(read.message.readOffset);
        expect(BigInt(readLimit)).toBe(read.message.readLimit);

        const written = parseWriteRequest(write.bytes);
        expect(written.resourceName).toBe(write.message.resourceName);
        expect(BigInt(written.writeOffset)).toBe(write.message.writeOffset);
        expect(written.finishWrite).toBe(write.message.finishWrite);
        expect([...written.data]).toEqual([...write.message.data]);

        const queried = parseQueryWriteStatusRequest(query.bytes);
        expect(queried.resourceName).toBe(query.message.resourceName);
      }),
    );
  });
});

describe("what is written is what the generated codec reads", () => {
  const filled = fc.array(digestMessages, { maxLength: 40 }).map((digests) => {
    const digestList = new DigestList();
    for (const { hash, sizeBytes } of digests) digestList.pushHash(hash, Number(sizeBytes));
    return { digests, digestList };
  });
  const statuses = fc.record({ code: fc.integer({ min: 1, max: 16 }), message: texts });

  test("FindMissingBlobsResponse", () => {
    fc.assert(
      fc.property(filled, fc.array(fc.nat()), ({ digests, digestList }, picks) => {
        const missing = digests.length === 0 ? [] : picks.map((pick) => pick % digests.length);

        const response = fromBinary(
          FindMissingBlobsResponseSchema,
          encodeFindMissingBlobsResponse(digestList, missing),
        );

        expect(plain(response.missingBlobDigests)).toEqual(
          plain(missing.map((index) => digests[index])),
        );
      }),
    );
  });

  test("BatchUpdateBlobsResponse", () => {
    fc.assert(
      fc.property(
        filled,
        fc.infiniteStream(fc.option(statuses, { nil: undefined })),
        (each, more) => {
          const given = each.digests.map(() => more.next().value);

          const { responses } = fromBinary(
            BatchUpdateBlobsResponseSchema,
            encodeBatchUpdateBlobsResponse(each.digestList, given),
          );

          expect(plain(responses.map(({ digest }) => digest))).toEqual(plain(each.digests));
          expect(responses.map(({ status }) => [status?.code, status?.message])).toEqual(
            given.map((status) => [status?.code ?? 0, status?.message ?? ""]),
          );
        },
      ),
    );
  });

  test("BatchReadBlobsResponse", () => {
    const results = fc.oneof(
      fc.record({ data: bytes, compressor: fc.constantFrom("identity", "zstd") }),
      fc.record({ status: statuses }),
    );
    fc.assert(
      fc.property(filled, fc.infiniteStream(results), (each, more) => {
        const given = each.digests.map(() => more.next().value);

        const { responses } = fromBinary(
          BatchReadBlobsResponseSchema,
          encodeBatchReadBlobsResponse(each.digestList, given),
        );

        expect(plain(responses.map(({ digest }) => digest))).toEqual(plain(each.digests));
        expect(
          responses.map(({ data, status, compressor }) => [[...data], status?.code, compressor]),
        ).toEqual(
          given.map((result) =>
            "status" in result
              ? [[], result.status.code, Compressor_Value.IDENTITY]
              : [[...result.data], 0, result.compressor === "zstd" ? 1 : 0],
          ),
        );
      }),
    );
  });

  test("ReadResponse, WriteResponse and QueryWriteStatusResponse", () => {
    const committed = fc.oneof(fc.constantFrom(0, -1), fc.nat(), fc.maxSafeNat());
    fc.assert(
      fc.property(bytes, committed, fc.boolean(), (data, size, complete) => {
        const read = Buffer.concat([encodeReadResponsePrefix(data.length), data]);
        expect([...fromBinary(ReadResponseSchema, read).data]).toEqual([...data]);

        const written = fromBinary(WriteResponseSchema, encodeWriteResponse(size));
        expect(written.committedSize).toBe(BigInt(size));

        const status = encodeQueryWriteStatusResponse(size, complete);
        expect(fromBinary(QueryWriteStatusResponseSchema, status)).toMatchObject({
          committedSize: BigInt(size),
          complete,
        });
      }),
    );
  });
});

describe("damaged and hostile messages are refused as INVALID or read as the generated codec does", () => {
  test("FindMissingBlobsRequest", () => {
    fc.assert(
      fc.property(damaged(findMissing), (wire) => {
        fc.pre(accepted(() => parseFindMissingBlobsRequest(wire, list)));
        const read = fromBinary(FindMissingBlobsRequestSchema, wire);
        expect(digestsIn(list)).toEqual(plain(read.blobDigests));
      }),
    );
  });

  test("GetActionResultRequest", () => {
    fc.assert(
      fc.property(damaged(getActionResult), (wire) => {
        fc.pre(accepted(() => parseGetActionResultRequest(wire, list)));
        const read = fromBinary(GetActionResultRequestSchema, wire);
        expect(digestsIn(list)).toEqual(plain([read.actionDigest]));
      }),
    );
  });

  test("UpdateActionResultRequest", () => {
    fc.assert(
      fc.property(damaged(updateActionResult), (wire) => {
        fc.pre(accepted(() => parseUpdateActionResultRequest(wire, list)));
        expect(list.length).toBe(1);
      }),
    );
  });

  test("batches", () => {
    fc.assert(
      fc.property(damaged(batchUpdate), damaged(batchRead), (update, read) => {
        if (accepted(() => parseBatchUpdateBlobsRequest(update, list))) {
          const { requests } = fromBinary(BatchUpdateBlobsRequestSchema, update);
          expect(digestsIn(list)).toEqual(plain(requests.map(({ digest }) => digest)));
        }
        if (accepted(() => parseBatchReadBlobsRequest(read, list))) {
          const { digests } = fromBinary(BatchReadBlobsRequestSchema, read);
          expect(digestsIn(list)).toEqual(plain(digests));
        }
      }),
    );
  });

  test("ByteStream", () => {
    fc.assert(
      fc.property(damaged(reads), damaged(writes), damaged(statusQueries), (read, write, query) => {
        if (accepted(() => parseReadRequest(read))) fromBinary(ReadRequestSchema, read);
        if (accepted(() => parseQueryWriteStatusRequest(query))) {
          fromBinary(QueryWriteStatusRequestSchema, query);
        }
        if (!accepted(() => parseWriteRequest(write))) return;
        const { data } = fromBinary(WriteRequestSchema, write);
        expect([...parseWriteRequest(write).data]).toEqual([...data]);
      }),
    );
  });

  test.each([
    ["a hash of another length", { hash: "ab".repeat(20), sizeBytes: 1n }, "has 40 characters"],
    ["an uppercase hash", { hash: "AB".repeat(32), sizeBytes: 1n }, "not lowercase hexadecimal"],
    ["no hash", { hash: "", sizeBytes: 1n }, "the hash is missing"],
    ["a negative size", { hash: "ab".repeat(32), sizeBytes: -1n }, "the size -1 is negative"],
    ["a size past 2^53", { hash: "ab".repeat(32), sizeBytes: 2n ** 62n }, "larger than any blob"],
  ])("%s is refused with its place", (_what, digest, text) => {
    const message = create(FindMissingBlobsRequestSchema, {
      blobDigests: [{ hash: "cd".repeat(32), sizeBytes: 5n }, digest],
    });
    const wire = toBinary(FindMissingBlobsRequestSchema, message);

    expect(() => parseFindMissingBlobsRequest(wire, list)).toThrow(
      new RegExp(`FindMissingBlobsRequest\\.blob_digests\\[1\\]: .*${text.replace("^", "\\^")}`),
    );
  });

  test("a digest function other than SHA-256 is refused by name", () => {
    const message = create(FindMissingBlobsRequestSchema, {
      digestFunction: DigestFunction_Value.BLAKE3,
    });
    const wire = toBinary(FindMissingBlobsRequestSchema, message);

    expect(() => parseFindMissingBlobsRequest(wire, list)).toThrow(/BLAKE3 is not supported/);
  });
});

test("of more wishes than anybody has, the first are heard", () => {
  const message = create(GetActionResultRequestSchema, {
    actionDigest: { hash: "ab".repeat(32), sizeBytes: 1n },
    inlineOutputFiles: Array.from({ length: 100_000 }, (_, index) => `file-${index}`),
    inlineStderr: true,
  });

  const read = parseGetActionResultRequest(toBinary(GetActionResultRequestSchema, message), list);

  expect([read.inlineOutputFiles.length, read.inlineOutputFiles.at(-1)]).toEqual([
    1024,
    "file-1023",
  ]);
  expect(read.inlineStderr).toBe(true);
});
