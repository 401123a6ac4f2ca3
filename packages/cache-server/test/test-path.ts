import { createHash } from "node:crypto";

import {
  type ContentAddress,
  contentAddressedPath,
  encodeNix32,
  formatContentAddress,
  parseStorePath,
  writeNar,
} from "@glorious/nix-store";

import { sha256 } from "./test-server.ts";

/** A store path made up for a test, with its NAR. */
export interface TestPath {
  readonly storePathHash: string;
  readonly storePath: string;
  readonly baseName: string;
  readonly nar: Buffer;
  /** Hexadecimal. */
  readonly narHash: string;
  readonly references: readonly string[];
}

/** One file with the given text; the same name, text and references give the same path. */
export async function createTestPath(
  name: string,
  contents: string | Uint8Array = name,
  references: readonly string[] = [],
): Promise<TestPath> {
  const bytes = Buffer.from(contents);
  const nar = Buffer.concat(
    await Array.fromAsync(
      writeNar([
        {
          type: "regular",
          path: [],
          executable: false,
          sizeBytes: bytes.length,
          contents: [bytes],
        },
      ]),
    ),
  );
  const digest = Buffer.from(sha256(Buffer.from(`${name} ${references.join(" ")}`)), "hex");
  const storePathHash = encodeNix32(digest.subarray(0, 20));
  const baseName = `${storePathHash}-${name}`;
  return {
    storePathHash,
    storePath: `/nix/store/${baseName}`,
    baseName,
    nar,
    narHash: sha256(nar),
    references,
  };
}

/** A path whose name follows from its content. */
export async function createAddressedPath(
  name: string,
  contents: string,
  method: ContentAddress["method"],
): Promise<{ readonly path: TestPath; readonly ca: string }> {
  const plain = await createTestPath(name, contents);
  const of = method === "nar" ? plain.nar : Buffer.from(contents);
  const address: ContentAddress = {
    method,
    hash: { algorithm: "sha256", bytes: createHash("sha256").update(of).digest() },
  };
  const storePath = contentAddressedPath(address, { name, references: [] }) ?? "";
  const { hash: storePathHash, baseName } = parseStorePath(storePath);
  return {
    path: { ...plain, storePath, storePathHash, baseName },
    ca: formatContentAddress(address),
  };
}

/** The JSON of Attic's upload, keys in the order its command line writes them. */
export function atticNarInfo(
  cache: string,
  path: TestPath,
  changes: Readonly<Record<string, unknown>> = {},
): string {
  return JSON.stringify({
    cache,
    store_path_hash: path.storePathHash,
    store_path: path.storePath,
    references: path.references,
    system: null,
    deriver: null,
    sigs: [],
    ca: null,
    nar_hash: `sha256:${path.narHash}`,
    nar_size: path.nar.length,
    ...changes,
  });
}
