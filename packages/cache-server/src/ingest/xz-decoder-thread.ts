import { parentPort } from "node:worker_threads";

import xz from "xz-decompress";

import type { XzThreadAnswer, XzThreadMessage } from "./xz-decoder.ts";

/** Messages cost; the decoder gives 64 KiB at a time. */
const OUTPUT_BYTES = 256 * 1024;

let waiting: PromiseWithResolvers<XzThreadAnswer> = Promise.withResolvers();

parentPort?.on("message", (answer: XzThreadAnswer) => waiting.resolve(answer));

let lastAnswer: Promise<unknown> = Promise.resolve();

/** Says something once what was said before is answered, and resolves with the answer. */
function ask(message: XzThreadMessage): Promise<XzThreadAnswer> {
  const answer = lastAnswer.then(() => {
    waiting = Promise.withResolvers();
    parentPort?.postMessage(message, message.kind === "output" ? [message.bytes.buffer] : []);
    return waiting.promise;
  });
  lastAnswer = answer;
  return answer;
}

async function decode(): Promise<XzThreadMessage> {
  let pieces: Uint8Array[] = [];
  let sizeBytes = 0;
  const flush = async (): Promise<void> => {
    if (sizeBytes === 0) return;
    const bytes = new Uint8Array(sizeBytes);
    let offset = 0;
    for (const piece of pieces) {
      bytes.set(piece, offset);
      offset += piece.length;
    }
    pieces = [];
    sizeBytes = 0;
    await ask({ kind: "output", bytes });
  };
  const input = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        let answer = await ask({ kind: "input" });
        // The decoder would take an empty piece for the end.
        while (answer.kind === "piece" && answer.bytes.length === 0) {
          answer = await ask({ kind: "input" });
        }
        if (answer.kind === "piece") controller.enqueue(answer.bytes);
        else controller.close();
      },
    },
    { highWaterMark: 0 },
  );
  try {
    for await (const chunk of new xz.XzReadableStream(input)) {
      pieces.push(chunk);
      sizeBytes += chunk.length;
      if (sizeBytes >= OUTPUT_BYTES) await flush();
    }
    await flush();
    return { kind: "end" };
  } catch (error) {
    return { kind: "failed", reason: String(error) };
  }
}

for (;;) {
  await waiting.promise;
  const outcome = await decode();
  await ask(outcome);
}
