import { Readable } from "node:stream";
import { createZstdCompress } from "node:zlib";

import { describeError } from "@glorious/core";
import { GRPC_STATUS, type ServerCall } from "@glorious/grpc";
import { encodeReadResponsePrefix } from "@glorious/reapi";

/** What {@link sendKeptBlob} sends. */
export interface KeptContent {
  readonly content: AsyncIterable<Buffer>;
  readonly isCompressed: boolean;
}

/**
 * Sends a blob from the disk as the answer to a read, no faster than the reader takes it.
 *
 * @param onWait is given what is to be called when the reader can take more, or went away
 */
export function sendKeptBlob(
  call: ServerCall,
  { content, isCompressed }: KeptContent,
  onWait: (goOn: () => void) => void,
): void {
  const send = async (): Promise<void> => {
    const source = Readable.from(content, { objectMode: false });
    const bytes: AsyncIterable<Buffer> = isCompressed ? source.pipe(createZstdCompress()) : source;
    for await (const chunk of bytes) {
      if (call.isOver) return;
      if (call.sendMessage([encodeReadResponsePrefix(chunk.length), chunk])) continue;
      await new Promise<void>((resolve) => onWait(resolve));
    }
    call.finish(GRPC_STATUS.OK);
  };
  send().catch((error: unknown) => {
    call.finish(GRPC_STATUS.UNAVAILABLE, describeError(error));
  });
}
