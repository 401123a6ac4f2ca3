import { createHash } from "node:crypto";

import type { NewPath, NewSigningKey, NewView, ObjectRecord } from "../../src/index/cache-index.ts";

/** A hash that stands for whatever `seed` names: always the same, never that of another seed. */
export function sha256Of(seed: string): string {
  return createHash("sha256").update(seed).digest("hex");
}

/** A store path hash for `seed`: 32 characters of nix32's alphabet. */
export function storePathHashOf(seed: string): string {
  const alphabet = "0123456789abcdfghijklmnpqrsvwxyz";
  const bytes = createHash("sha256").update(`path ${seed}`).digest();
  return [...bytes].map((byte) => alphabet[byte % 32]).join("");
}

export function sampleView(name: string, changes: Partial<NewView> = {}): NewView {
  return {
    name,
    isPublic: false,
    storeDir: "/nix/store",
    priority: 41,
    upstreamCacheKeyNames: ["cache.nixos.org-1"],
    retentionSeconds: undefined,
    maxSizeBytes: undefined,
    compressionLevel: undefined,
    signsUpstream: false,
    pushesUpstream: false,
    createdAtMs: 1_700_000_000_000,
    ...changes,
  };
}

export function sampleKey(name: string, createdAtMs = 1_700_000_000_000): NewSigningKey {
  return {
    name,
    secretKey: `${name}:secret`,
    publicKey: `${name}:public`,
    createdAtMs,
  };
}

/** A stored zstd encoding of the NAR that `seed` names; `encoding` tells several of one NAR apart. */
export function sampleObject(seed: string, encoding = "ours"): ObjectRecord {
  return {
    fileHash: sha256Of(`file ${seed} ${encoding}`),
    fileSize: 100 + seed.length + encoding.length,
    compression: "zstd",
    narHash: sha256Of(`nar ${seed}`),
    narSize: 1000 + seed.length,
  };
}

/** A path whose NAR is `sampleObject(seed)`. */
export function samplePath(seed: string, changes: Partial<NewPath> = {}): NewPath {
  const storePathHash = storePathHashOf(seed);
  const { narHash, fileHash } = sampleObject(seed);
  return {
    storePathHash,
    storePath: `/nix/store/${storePathHash}-${seed}`,
    narHash,
    fileHash,
    references: [`${storePathHashOf("glibc")}-glibc`],
    deriver: `${storePathHashOf("drv")}-${seed}.drv`,
    ca: undefined,
    system: "x86_64-linux",
    signatures: [],
    narInfo: `StorePath: /nix/store/${storePathHash}-${seed}\n`,
    keyGeneration: 0,
    createdAtMs: 1_700_000_000_000,
    createdBy: "ci",
    requiredReferences: [],
    ...changes,
  };
}
