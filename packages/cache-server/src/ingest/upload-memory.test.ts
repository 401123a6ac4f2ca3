import { expect, test } from "vitest";

import type { ObjectCompression } from "../index/cache-index.ts";
import { createUploadMemory, type IncomingStream, type UploadMemory } from "./upload-memory.ts";

const MIB = 2 ** 20;

function createMemory(
  totalBytes: number,
  maxWaitMs = 60_000,
): UploadMemory & { taken: () => number } {
  let taken = 0;
  const memory = createUploadMemory({
    totalBytes,
    maxWaitMs,
    onChange: (bytes) => (taken = bytes),
  });
  return { ...memory, taken: () => taken };
}

interface TestStream extends IncomingStream {
  readonly ended: () => boolean;
}

function streamOf(compression: ObjectCompression, hex: string, narSize?: number): TestStream {
  let isEnded = false;
  async function* chunks(): AsyncGenerator<Buffer> {
    try {
      for (const byte of Buffer.from(hex.padEnd(200, "0"), "hex")) yield Buffer.of(byte);
    } finally {
      isEnded = true;
    }
  }
  const { signal } = new AbortController();
  return { source: chunks(), compression, narSize, signal, ended: () => isEnded };
}

/** The first bytes of `xz -6`, of `xz -9`, and of zstd with windows of 2 and of 128 MiB. */
const XZ_6 = "fd377a585a000004e6d6b446020021011600000074";
const XZ_9 = "fd377a585a000004e6d6b446020021011c00000010";
const ZSTD = "28b52ffd0058";
const ZSTD_LONG = "28b52ffd0088";

test.each([
  ["none", "", 1000, 7000],
  ["none", "", undefined, 56 * MIB],
  ["xz", XZ_6, undefined, 8 * MIB],
  ["xz", XZ_9, undefined, 64 * MIB],
  ["xz", "fd377a585a", undefined, 64 * MIB],
  ["zstd", ZSTD, undefined, 8 * MIB],
  ["zstd", ZSTD_LONG, undefined, 128 * MIB],
] as const)("a %s stream that begins with %s takes what its decoding needs", async (...given) => {
  const [compression, hex, narSize, sizeBytes] = given;
  const memory = createMemory(2 ** 30);
  {
    using stream = await memory.admit(streamOf(compression, hex, narSize));
    expect(memory.taken()).toBe(sizeBytes + 4 * MIB);
    const bytes = Buffer.concat(await Array.fromAsync(stream.source));
    expect(bytes.toString("hex")).toBe(hex.padEnd(200, "0"));
  }
  expect(memory.taken()).toBe(0);
});

test("a stream that waits too long is refused, and its source is closed", async () => {
  const memory = createMemory(16 * MIB, 5);
  using _ = await memory.admit(streamOf("zstd", ZSTD));
  const late = streamOf("zstd", ZSTD);

  await expect(memory.admit(late)).rejects.toMatchObject({ code: "UNAVAILABLE" });

  expect(late.ended()).toBe(true);
  expect(memory.taken()).toBe(12 * MIB);
});
