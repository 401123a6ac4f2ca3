import { createHash } from "node:crypto";
import { pipeline, Readable } from "node:stream";
import { createBrotliDecompress, createGunzip } from "node:zlib";

import { decodeZstd, type NarInfo } from "@glorious/nix-store";

import { describeRefusal } from "../../doctor/describe-refusal.ts";
import type { HttpSession } from "../../doctor/http-session.ts";
import type { NarFacts } from "../snapshot.ts";

type Bytes = AsyncIterable<Uint8Array>;

const MAX_REFUSAL_BYTES = 4096;

/**
 * Streams a NAR, hashes what comes and what is in it, and keeps neither.
 *
 * @throws {CacheError} when there is no answer at all; a transfer that breaks off is a fact.
 */
export async function fetchNar(
  narInfo: NarInfo,
  substituter: string,
  session: HttpSession,
  password: string | undefined,
): Promise<NarFacts> {
  const url = new URL(narInfo.url, `${substituter}/`).href;
  const { status, body } = await session.open(url, password);
  const file = createHash("sha256");
  let fileSize = 0;
  let transferProblem: string | undefined;
  let refusal = "";

  const chunks = body[Symbol.asyncIterator]();
  const next = async (): Promise<Uint8Array | undefined> => {
    try {
      const { value, done } = await chunks.next();
      if (done === true) return undefined;
      file.update(value);
      fileSize += value.length;
      if (refusal.length < MAX_REFUSAL_BYTES && status !== 200) {
        refusal += Buffer.from(value).toString();
      }
      return value;
    } catch (error) {
      transferProblem = error instanceof Error ? error.message : String(error);
      return undefined;
    }
  };
  async function* received(): AsyncGenerator<Uint8Array> {
    for (let chunk = await next(); chunk !== undefined; chunk = await next()) yield chunk;
  }

  const decoder = status === 200 ? DECODERS[narInfo.compression] : undefined;
  const contents = decoder === undefined ? undefined : await readContents(decoder(received()));
  // A decoder that gave up leaves the rest, which belongs to the file's hash.
  for await (const _ of received());
  return {
    url,
    status,
    refusal: describeRefusal(refusal),
    fileSize,
    fileHash: file.digest("hex"),
    transferProblem,
    contents,
  };
}

/** The compressions read here; Nix itself knows more. */
const DECODERS: Readonly<Record<string, (file: Bytes) => Bytes>> = {
  none: (file) => file,
  zstd: (file) => decodeZstd(file),
  gzip: (file) => pipeline(Readable.from(file), createGunzip(), () => {}),
  br: (file) => pipeline(Readable.from(file), createBrotliDecompress(), () => {}),
};

async function readContents(nar: Bytes): Promise<NarFacts["contents"]> {
  const hash = createHash("sha256");
  let narSize = 0;
  try {
    for await (const chunk of nar) {
      hash.update(chunk);
      narSize += chunk.length;
    }
  } catch (error) {
    return { problem: error instanceof Error ? error.message : String(error) };
  }
  return { narSize, narHash: hash.digest("hex") };
}
