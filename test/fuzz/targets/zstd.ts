import { zstdCompressSync, zstdDecompressSync } from "node:zlib";

import { isCacheError } from "@glorious/core";
import { createZstdScanner, decodeZstd, encodeNar, type ZstdScanner } from "@glorious/nix-store";

import type { Random } from "../../random.ts";
import { Finding, type FuzzTarget, openPlain } from "../fuzz-target.ts";

const MAX_CONTENT_BYTES = 4 * 2 ** 20;
const SKIPPABLE = Buffer.from("502a4d1804000000deadbeef", "hex");
const REFUSALS = ["CORRUPT", "TRUNCATED", "TOO_LARGE", "UNSUPPORTED"] as const;

async function* cut(bytes: Buffer, pieceBytes: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
}

/** What comes out, or the refusal's code; undefined when it is too much to look at. */
async function decode(input: Buffer, pieceBytes: number): Promise<Buffer | string | undefined> {
  const pieces: Buffer[] = [];
  let sizeBytes = 0;
  try {
    for await (const piece of decodeZstd(cut(input, pieceBytes), { maxWindowLog: 24 })) {
      sizeBytes += piece.length;
      if (sizeBytes > MAX_CONTENT_BYTES) return undefined;
      pieces.push(Buffer.from(piece));
    }
  } catch (error) {
    if (REFUSALS.some((code) => isCacheError(error, code)) && isCacheError(error))
      return error.code;
    throw error;
  }
  return Buffer.concat(pieces);
}

function scan(input: Buffer, pieceBytes: number): ZstdScanner | string {
  const scanner = createZstdScanner();
  try {
    for (let at = 0; at < input.length; at += pieceBytes) {
      scanner.write(input.subarray(at, at + pieceBytes));
    }
    scanner.end();
  } catch (error) {
    if (isCacheError(error, "CORRUPT") || isCacheError(error, "TRUNCATED")) return error.code;
    throw error;
  }
  return scanner;
}

async function check(input: Buffer): Promise<string> {
  const whole = await decode(input, Math.max(1, input.length));
  const pieces = await decode(input, 13);
  if (describe(whole) !== describe(pieces))
    throw new Finding("A cut zstd stream decodes differently");
  const scanned = scan(input, Math.max(1, input.length));
  const scannedPieces = scan(input, 5);
  if (describeScan(scanned) !== describeScan(scannedPieces)) {
    throw new Finding("A cut zstd stream is judged differently");
  }
  if (!Buffer.isBuffer(whole)) return whole ?? "large";
  if (typeof scanned === "string") {
    throw new Finding("The scanner refuses what the decoder takes");
  }
  if (whole.length > scanned.maxContentBytes) {
    throw new Finding("More comes out than the scanner foretold");
  }
  if (scanned.contentBytes !== undefined && scanned.contentBytes !== whole.length) {
    throw new Finding("The frames' content sizes are a lie and decoded");
  }
  if (scanned.violation !== undefined) return "decoded, not to be stored";
  checkAgainstZlib(input, whole, scanned.frames);
  return "acceptable";
}

/** Node's own decoder knows one frame; with more it has the first. */
function checkAgainstZlib(input: Buffer, decoded: Buffer, frames: number): void {
  if (frames !== 1) return;
  if (!zstdDecompressSync(input).equals(decoded)) throw new Finding("zlib decodes to other bytes");
}

function describe(result: Buffer | string | undefined): string {
  return Buffer.isBuffer(result) ? result.toString("base64") : String(result);
}

function describeScan(scanned: ZstdScanner | string): string {
  if (typeof scanned === "string") return scanned;
  return `${scanned.frames} ${scanned.contentBytes} ${scanned.windowBytes} ${scanned.violation}`;
}

function generate(random: Random): Buffer {
  const frames: Buffer[] = [];
  for (let count = 1 + random.below(3); count > 0; count -= 1) {
    if (random.chance(0.1)) frames.push(SKIPPABLE);
    const text = Buffer.alloc(random.below(2000), random.bytes(1 + random.below(40)));
    const noise = random.chance(0.3) ? random.bytes(random.below(300)) : Buffer.alloc(0);
    frames.push(zstdCompressSync(Buffer.concat([text, noise])));
  }
  return Buffer.concat(frames);
}

export const zstdTarget: FuzzTarget = {
  name: "zstd",
  summary: "bytes as zstd: scanner, decoder and zlib agree, however they are cut",
  seeds: async () => {
    const nar = Buffer.alloc(5000, "a NAR of some text ");
    return [
      Buffer.concat(await Array.fromAsync(encodeNar(cut(nar, 1000)))),
      zstdCompressSync(Buffer.alloc(0)),
      zstdCompressSync(Buffer.from("short")),
      Buffer.concat([SKIPPABLE, zstdCompressSync(nar), SKIPPABLE]),
      // Without a content size, as a pipe writes it: frame header 0x00, one raw block.
      Buffer.from("28b52ffd0058090000616263", "hex"),
    ];
  },
  dictionary: [SKIPPABLE, SKIPPABLE.subarray(0, 4), Buffer.from("28b52ffd", "hex")],
  maxBytes: 4096,
  guides: /\/nix-store\/src\/zstd/,
  generate,
  open: openPlain(check),
};
