import { Readable } from "node:stream";
import { createZstdCompress } from "node:zlib";

import { describeError } from "@glorious/core";
import { GRPC_STATUS, type ServerCall } from "@glorious/grpc";
import { encodeReadResponsePrefix } from "@glorious/reapi";

/** What {@link sendKeptBlob} sends. */
export interface KeptContent {
  readonly content: AsyncIterable<Buffer>;
  readonly isCompressed: boolean;
  /** So many of its bytes belong to a message that was broken off. */
  readonly openBytes: number;
}

/**
 * Sends a blob from the disk as the answer to a read, no faster than the reader takes it.
 *
 * @param onWait is given what is to be called when the reader can take more, or went away
 */
export function sendKeptBlob(
  call: ServerCall,
  { content, isCompressed, openBytes }: KeptContent,
  onWait: (goOn: () => void) => void,
): void {
  const send = async (): Promise<void> => {
    const source = Readable.from(content, { objectMode: false });
    const bytes: AsyncIterable<Buffer> = isCompressed ? source.pipe(createZstdCompress()) : source;
    let missing = openBytes;
    for await (const chunk of bytes) {
      if (call.isOver) return;
      const open = chunk.subarray(0, missing);
      const rest = chunk.subarray(open.length);
      missing -= open.length;
      let isWelcome = open.length === 0 || call.sendBytes(open);
      if (rest.length > 0) {
        isWelcome = call.sendMessage([encodeReadResponsePrefix(rest.length), rest]);
      }
      if (isWelcome) continue;
      await new Promise<void>((resolve) => onWait(resolve));
    }
    call.finish(GRPC_STATUS.OK);
  };
  send().catch((error: unknown) => {
    call.finish(GRPC_STATUS.UNAVAILABLE, describeError(error));
  });
}
