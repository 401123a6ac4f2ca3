import { connect, type Socket } from "node:net";

import type { Recorder } from "./recorder.ts";
import type { Target } from "./replay.ts";

const READ_BYTES = 2 ** 18;

/** Connects to what is measured. Every read lies in the same buffer, and is gone with the next one. */
export function openLoadSocket(
  target: Target,
  on: {
    readonly recorder: Recorder;
    readonly read: (buffer: Buffer, bytes: number) => void;
    readonly close: () => void;
  },
): Socket {
  const buffer = Buffer.allocUnsafeSlow(READ_BYTES);
  const socket = connect({
    host: target.host,
    port: target.port,
    onread: {
      buffer,
      callback: (bytes) => {
        on.read(buffer, bytes);
        return true;
      },
    },
  });
  socket.setNoDelay(true);
  socket.on("error", (error) => on.recorder.addWrong(error.message));
  socket.on("close", on.close);
  return socket;
}
