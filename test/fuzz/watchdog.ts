import { writeFileSync } from "node:fs";
import { isMainThread, Worker, workerData } from "node:worker_threads";

/** Ends the process when one input keeps it busy for too long, and leaves that input in a file. */
export interface Watchdog extends AsyncDisposable {
  /** Notes that this input begins. */
  begin(input: Buffer): void;
}

interface WatchdogData {
  readonly shared: SharedArrayBuffer;
  readonly file: string;
  readonly limitMs: number;
}

const HEADER_BYTES = 8;
/** The exit status of a process that was ended so. */
const HANG_STATUS = 3;

/** @param file Where the input goes. Inputs are longer than `maxBytes` never. */
export function startWatchdog(file: string, limitMs: number, maxBytes: number): Watchdog {
  const shared = new SharedArrayBuffer(HEADER_BYTES + maxBytes);
  const counters = new Int32Array(shared, 0, 2);
  const bytes = new Uint8Array(shared, HEADER_BYTES);
  const data: WatchdogData = { shared, file, limitMs };
  const worker = new Worker(new URL(import.meta.url), { workerData: data });
  worker.unref();
  return {
    begin(input) {
      bytes.set(input.subarray(0, maxBytes));
      Atomics.store(counters, 1, input.length);
      Atomics.add(counters, 0, 1);
    },
    [Symbol.asyncDispose]: async () => {
      await worker.terminate();
    },
  };
}

/** The worker's half: blocks its own thread, so that a busy main thread cannot keep it from looking. */
function watch({ shared, file, limitMs }: WatchdogData): void {
  const counters = new Int32Array(shared, 0, 2);
  for (let last = -1; ;) {
    const count = Atomics.load(counters, 0);
    if (count === last) {
      const length = Atomics.load(counters, 1);
      writeFileSync(file, new Uint8Array(shared, HEADER_BYTES, length));
      process.exitCode = HANG_STATUS;
      process.kill(process.pid, "SIGABRT");
    }
    last = count;
    Atomics.wait(counters, 0, count, limitMs);
  }
}

if (!isMainThread && (workerData as Partial<WatchdogData> | null)?.shared !== undefined) {
  watch(workerData as WatchdogData);
}
