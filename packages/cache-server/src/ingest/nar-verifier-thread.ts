import { createHash } from "node:crypto";
import { parentPort } from "node:worker_threads";

import { isCacheError } from "@glorious/core";

import { measureNar } from "./measure-nar.ts";
import { decodeNar } from "./nar-decoder.ts";
import type { VerifierAnswer, VerifierMessage } from "./nar-verifier.ts";

/** A file that comes piece by piece. */
class Incoming {
  readonly #pieces: Uint8Array[] = [];
  #isEnded = false;
  #isDropped = false;
  #wake = (): void => {};

  add(piece: Uint8Array): void {
    this.#pieces.push(piece);
    this.#wake();
  }

  end(): void {
    this.#isEnded = true;
    this.#wake();
  }

  drop(): void {
    this.#isDropped = true;
    this.#wake();
  }

  /** Tells of each piece that nothing needs any more. */
  async *read(onTaken: () => void): AsyncGenerator<Buffer> {
    for (;;) {
      if (this.#isDropped) throw new Error("Nobody wants to know any more");
      const piece = this.#pieces.shift();
      if (piece !== undefined) {
        yield Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
        onTaken();
      } else if (this.#isEnded) {
        return;
      } else {
        await new Promise<void>((resolve) => (this.#wake = resolve));
      }
    }
  }
}

const files = new Map<number, Incoming>();

function answer(message: VerifierAnswer): void {
  parentPort?.postMessage(message, []);
}

async function verify(
  { id, compression, expected, maxNarSizeBytes, maxWindowLog }: VerifierMessage & { kind: "begin" },
  file: Incoming,
): Promise<void> {
  const hash = createHash("sha256");
  async function* hashed(): AsyncGenerator<Buffer> {
    for await (const piece of file.read(() => answer({ kind: "taken", id }))) {
      hash.update(piece);
      yield piece;
    }
  }
  try {
    const nar = decodeNar(hashed(), compression, undefined, maxWindowLog);
    await measureNar(nar, expected, maxNarSizeBytes);
    answer({ kind: "right", id, fileHash: hash.digest("hex") });
  } catch (error) {
    const code = isCacheError(error) ? error.code : undefined;
    answer({ kind: "failed", id, code, message: error instanceof Error ? error.message : "" });
  } finally {
    files.delete(id);
  }
}

parentPort?.on("message", (message: VerifierMessage) => {
  const { id } = message;
  switch (message.kind) {
    case "begin": {
      const file = new Incoming();
      files.set(id, file);
      void verify(message, file);
      return;
    }
    case "piece":
      files.get(id)?.add(message.bytes);
      return;
    case "end":
      files.get(id)?.end();
      return;
    default:
      files.get(id)?.drop();
  }
});
