import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** So much may come from sockets before its memory is looked for. */
const PERIOD_BYTES = 16 * 2 ** 20;

let bytesSince = 0;
let collect: typeof globalThis.gc;

/**
 * Bytes came from a socket, in memory of their own that is garbage as soon as they went on. V8 counts it for little and
 * lets 64 MiB of it lie, then looks through the whole heap. To look through the young part now and then keeps the
 * process small, and takes half as long.
 */
export function noteNetworkGarbage(bytes: number): void {
  bytesSince += bytes;
  if (bytesSince < PERIOD_BYTES) return;
  bytesSince = 0;
  collect ??= exposeCollector();
  collect?.({ type: "minor" });
}

/** As `--expose-gc` does, with which V8 would not take the compiled code that it has kept, and start by 25 ms later. */
function exposeCollector(): typeof globalThis.gc {
  setFlagsFromString("--expose-gc");
  return runInNewContext("gc") as typeof globalThis.gc;
}
