import { randomBytes } from "node:crypto";
import { zstdCompressSync } from "node:zlib";

import { openTenantStore } from "../../src/bazel/store/tenant-store.ts";
import { blobOf, listOf, pieces, textBlob } from "./blobs.ts";

// Writes blobs of all kinds and ActionResults into the directory it is given, several at a time and for ever, and
// prints a line for each that it was told is stored.
const [directory = ""] = process.argv.slice(2);
const store = await openTenantStore({
  directory,
  views: async () => new Map([[1, { maxBytes: undefined }]]),
  limits: { maxBytes: 2 ** 40, maxBlobBytes: 2 ** 30, ttlMs: 1000, memoryBytes: 2 ** 22 },
});
const scope = store.scope(1, "main");

async function write(size: number): Promise<void> {
  for (;;) {
    const blob = blobOf(randomBytes(size));
    await scope.putBlob({ ...blob, form: "identity", source: pieces(blob.bytes) });
    process.stdout.write(`blob ${blob.hash} ${blob.sizeBytes}\n`);
    const packed = textBlob(size);
    const source = pieces(zstdCompressSync(packed.bytes));
    await scope.putBlob({ ...packed, form: "zstd", source });
    process.stdout.write(`blob ${packed.hash} ${packed.sizeBytes}\n`);
    await scope.putAction(blob.key, Buffer.from(blob.hash), listOf([blob, packed]));
    process.stdout.write(`action ${blob.hash} 0\n`);
  }
}

/** The index's bytes are on their way into packs all the while. */
async function pack(): Promise<void> {
  for (;;) await store.pack();
}

await Promise.all([pack(), ...[100, 20_000, 40_000, 300_000].map(write)]);
