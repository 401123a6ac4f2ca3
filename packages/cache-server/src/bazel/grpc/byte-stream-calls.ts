import { CacheError } from "@glorious/core";
import { type CallReceiver, GRPC_STATUS, keepStatus, type ServerCall } from "@glorious/grpc";
import {
  ByteStream,
  DigestList,
  encodeQueryWriteStatusResponse,
  encodeReadResponsePrefix,
  encodeWriteResponse,
  parseQueryWriteStatusRequest,
  parseReadRequest,
  parseReadResourceName,
  parseWriteRequest,
  parseWriteResourceName,
  type ReadRequestFields,
  type WriteRequestFields,
  methodPath,
} from "@glorious/reapi";

import { contentAtHand, streamContent } from "../services/blob-content.ts";
import { chunkPool } from "../services/chunk-pool.ts";
import type { InstanceAccess } from "../services/instance-access.ts";
import type { UploadSession, UploadSessions } from "../services/upload-session.ts";
import type { BlobForm, StoredBlob } from "../store/bazel-store.ts";
import type { CallContext } from "./call-context.ts";
import { failCall } from "./call-errors.ts";
import { drained, receiveOne, receiveOneAndStream, signalOf } from "./receivers.ts";

/** Messages of an answer; clients take up to 4 MiB. */
const MAX_PIECE_BYTES = 2 ** 20;

const IS_ABSENT = keepStatus(GRPC_STATUS.NOT_FOUND, "There is no such blob");

/** What of a blob is wanted, and in which form. */
type ReadWish = Pick<ReadRequestFields, "readOffset" | "readLimit"> & { readonly form: BlobForm };

/** `google.bytestream.ByteStream`. */
export function byteStreamCalls(
  context: CallContext,
  uploads: UploadSessions,
): [path: string, receiver: CallReceiver][] {
  // Read and forgotten within a turn.
  const digests = new DigestList();

  const countRead = (call: ServerCall, access: InstanceAccess, blob: StoredBlob): void => {
    const run = context.invocationOf(call, access);
    for (const figures of [access.counters, run]) {
      if (figures === undefined) continue;
      figures.blobsRead += 1;
      figures.bytesRead += blob.sizeBytes;
    }
  };

  /** A small blob in one message, in the turn that it is asked for in; false for others. */
  const answerAtOnce = (
    call: ServerCall,
    access: InstanceAccess,
    blob: StoredBlob,
    { form, readOffset, readLimit }: ReadWish,
  ): boolean => {
    const isWhole = readOffset === 0 && readLimit === 0;
    const bytes = isWhole ? contentAtHand(blob, form) : undefined;
    if (bytes === undefined) return false;
    countRead(call, access, blob);
    call.respond([encodeReadResponsePrefix(bytes.length), bytes]);
    return true;
  };

  const answerInPieces = async (
    call: ServerCall,
    access: InstanceAccess,
    blob: StoredBlob,
    wish: ReadWish,
  ): Promise<void> => {
    await send(call, blob, wish);
    countRead(call, access, blob);
  };

  const answerAbsent = (call: ServerCall, { counters }: InstanceAccess): void => {
    counters.blobsNotRead += 1;
    call.finishWith(IS_ABSENT);
  };

  const read = receiveOneAndStream((call, message) => {
    const request = parseReadRequest(message);
    const { resourceName, readOffset, readLimit } = request;
    const { instanceName: instance, compressor } = parseReadResourceName(resourceName, digests);
    requireReadable(request, digests.sizeBytes(0), compressor);
    const access = context.recall(call, instance, "pull");
    const wish = { form: compressor, readOffset, readLimit };
    if (access !== undefined) {
      const blob = access.scope.lookUpBlob(digests, 0);
      if (blob === undefined) answerAbsent(call, access);
      else if (!answerAtOnce(call, access, blob, wish)) {
        context.run(call, () => answerInPieces(call, access, blob, wish));
      }
      return;
    }
    const name = { key: digests.key(0), sizeBytes: digests.sizeBytes(0) };
    context.run(call, async () => {
      const opened = await context.open(call, instance, "pull");
      const found = await opened.scope.findBlob(name);
      if (found === undefined) answerAbsent(call, opened);
      else await answerInPieces(call, opened, found, wish);
    });
  });

  const queryWriteStatus = receiveOne((call, message) => {
    const { resourceName } = parseQueryWriteStatusRequest(message);
    const own = new DigestList();
    const { instanceName, compressor } = parseWriteResourceName(resourceName, own);
    context.run(call, async () => {
      const access = await context.open(call, instanceName, "push");
      const isHere = (await access.scope.findMissing(own)).length === 0;
      if (isHere) {
        call.respond(encodeQueryWriteStatusResponse(own.sizeBytes(0), true));
        return;
      }
      const session = uploads.find(sessionName(access, resourceName));
      // What a client has sent of an encoding it cannot find again: its offsets are those of the content.
      const committed = compressor === "identity" ? (session?.receivedBytes ?? 0) : 0;
      call.respond(encodeQueryWriteStatusResponse(committed, false));
    });
  });

  return [
    [methodPath(ByteStream, "read"), read],
    [methodPath(ByteStream, "write"), writeReceiver(context, uploads)],
    [methodPath(ByteStream, "queryWriteStatus"), queryWriteStatus],
  ];
}

function requireReadable(
  { readOffset, readLimit, resourceName }: ReadRequestFields,
  sizeBytes: number,
  compressor: BlobForm,
): void {
  if (readOffset < 0 || readOffset > sizeBytes) {
    throw new CacheError("RANGE", `The offset ${readOffset} is not within ${resourceName}`);
  }
  if (readLimit < 0) throw new CacheError("INVALID", `The limit ${readLimit} is negative`);
  if (readLimit > 0 && compressor !== "identity") {
    throw new CacheError("INVALID", "A compressed read has no limit");
  }
}

async function send(
  call: ServerCall,
  blob: StoredBlob,
  { form, readOffset, readLimit }: ReadWish,
): Promise<void> {
  const limit = readLimit === 0 ? undefined : readLimit;
  const signal = signalOf(call);
  const wish = { offset: readOffset, limit, signal, buffers: chunkPool };
  for await (const chunk of streamContent(blob, form, wish)) {
    for (let at = 0; at < chunk.length; at += MAX_PIECE_BYTES) {
      if (call.isOver) return;
      const piece = chunk.subarray(at, at + MAX_PIECE_BYTES);
      const isLast = at + piece.length === chunk.length;
      const onSent = isLast ? () => chunkPool.give(chunk) : undefined;
      const message = [encodeReadResponsePrefix(piece.length), piece];
      if (!call.sendMessage(message, onSent)) await drained(call);
    }
  }
  call.finish(0);
}

function sessionName({ scope }: InstanceAccess, resourceName: string): string {
  return `${scope.viewId}/${resourceName}`;
}

/** How a write gets on. */
interface Writing {
  readonly resourceName: string;
  readonly form: BlobForm;
  readonly sizeBytes: number;
  readonly digests: DigestList;
  access: InstanceAccess | undefined;
  session: UploadSession | undefined;
  /** Where the next message must begin; of an encoding only the first message's place is looked at. */
  nextOffset: number;
  isFinished: boolean;
  isHalfClosed: boolean;
  /** Messages that came before it was known whether the caller may write. */
  waiting: Uint8Array[];
}

function writeReceiver(context: CallContext, uploads: UploadSessions): CallReceiver {
  const start = (call: ServerCall, first: WriteRequestFields): Writing => {
    const digests = new DigestList();
    const { resourceName } = first;
    if (resourceName === "")
      throw new CacheError("INVALID", "The first message has no resource name");
    const { instanceName, compressor } = parseWriteResourceName(resourceName, digests);
    const writing: Writing = {
      resourceName,
      form: compressor,
      sizeBytes: digests.sizeBytes(0),
      digests,
      access: context.recall(call, instanceName, "push"),
      session: undefined,
      nextOffset: first.writeOffset,
      isFinished: false,
      isHalfClosed: false,
      waiting: [],
    };
    if (writing.access !== undefined) return writing;
    context.run(call, async () => {
      writing.access = await context.open(call, instanceName, "push");
      for (const message of writing.waiting.splice(0)) {
        if (call.isOver) return;
        take(call, writing, message);
      }
      if (writing.isHalfClosed) endUnfinished(call, writing);
    });
    return writing;
  };

  const takeFirst = (call: ServerCall, writing: Writing, access: InstanceAccess): boolean => {
    const { scope, counters } = access;
    if (scope.findFewMissing(writing.digests)?.length === 0) {
      counters.blobsPresent += 1;
      call.respond(encodeWriteResponse(writing.form === "identity" ? writing.sizeBytes : -1));
      context.answered(call);
      return false;
    }
    const name = sessionName(access, writing.resourceName);
    const running = uploads.find(name);
    if (writing.nextOffset > 0) {
      if (writing.form !== "identity" || running?.receivedBytes !== writing.nextOffset) {
        throw new CacheError(
          "RANGE",
          `The write begins at ${writing.nextOffset}, where the upload is not`,
          { hint: "Ask QueryWriteStatus where to go on." },
        );
      }
      writing.session = running;
    } else {
      writing.session = uploads.begin(name, scope, {
        key: writing.digests.key(0),
        sizeBytes: writing.sizeBytes,
        form: writing.form,
      });
    }
    void answer(call, writing, access);
    return true;
  };

  /** The upload ends with the last message, or with the first that is wrong. */
  const answer = async (
    call: ServerCall,
    writing: Writing,
    access: InstanceAccess,
  ): Promise<void> => {
    const { session, form, sizeBytes } = writing;
    try {
      const kind = await session?.outcome;
      if (kind === "present") access.counters.blobsPresent += 1;
      else {
        const run = context.invocationOf(call, access);
        for (const figures of [access.counters, run]) {
          if (figures === undefined) continue;
          figures.blobsStored += 1;
          figures.bytesStored += sizeBytes;
        }
      }
      // The bytes as they came: what every Bazel since 5 accepts.
      const committed =
        form === "identity" ? sizeBytes : kind === "present" ? -1 : session?.receivedBytes;
      call.respond(encodeWriteResponse(committed ?? sizeBytes));
    } catch (error) {
      failCall(call, error);
    }
    context.answered(call);
  };

  const take = (call: ServerCall, writing: Writing, message: Uint8Array): void => {
    try {
      takeMessage(call, writing, message);
    } catch (error) {
      writing.session?.detach();
      failCall(call, error);
      context.answered(call);
    }
  };

  const takeMessage = (call: ServerCall, writing: Writing, message: Uint8Array): void => {
    const { access } = writing;
    if (access === undefined) {
      writing.waiting.push(Buffer.from(message));
      return;
    }
    const { resourceName, writeOffset, finishWrite, data } = parseWriteRequest(message);
    if (resourceName !== "" && resourceName !== writing.resourceName) {
      throw new CacheError("INVALID", "The resource name changed in the middle of a write");
    }
    if (writing.isFinished) throw new CacheError("INVALID", "A message came after the last one");
    if (writing.session === undefined && !takeFirst(call, writing, access)) return;
    if (writeOffset !== writing.nextOffset) {
      throw new CacheError(
        "INVALID",
        `The message begins at ${writeOffset}, the one before ended at ${writing.nextOffset}`,
      );
    }
    writing.nextOffset += data.length;
    const { session } = writing;
    if (data.length > 0) session?.write(data, () => call.consumed());
    else call.consumed();
    if (!finishWrite) return;
    writing.isFinished = true;
    session?.end();
  };

  return {
    manualConsume: true,
    keepsNothing: true,
    requestBytes: (call) => (call.state as Writing | undefined)?.sizeBytes,
    onMessage(call, message) {
      try {
        call.state ??= start(call, parseWriteRequest(message));
      } catch (error) {
        failCall(call, error);
        return;
      }
      take(call, call.state as Writing, message);
    },
    onHalfClose(call) {
      const writing = call.state as Writing | undefined;
      if (writing === undefined) {
        failCall(call, new CacheError("INVALID", "The write has no message"));
        return;
      }
      writing.isHalfClosed = true;
      // Messages that wait have their turn first.
      if (writing.access !== undefined) endUnfinished(call, writing);
    },
    onCancel(call) {
      (call.state as Writing | undefined)?.session?.detach();
    },
  };
}

/** Without its last message the client may come back and go on. */
function endUnfinished(call: ServerCall, writing: Writing): void {
  if (writing.isFinished || call.isOver) return;
  writing.session?.detach();
  failCall(
    call,
    new CacheError("INVALID", "The write ended without finish_write", {
      hint: "Go on where QueryWriteStatus says.",
    }),
  );
}
