import { CacheError } from "@glorious/core";
import {
  type ContentAddress,
  isContentAddressed,
  type NarInfo,
  narInfoFingerprint,
  parseContentAddress,
  parseNarCompression,
  parseNarInfo,
  parseStorePath,
  type PublicKey,
  type StorePath,
  verifySignature,
} from "@glorious/nix-store";

import type { SourcePath } from "./cache-source.ts";

/** What a narinfo of a source has to agree with. */
export interface NarInfoRules {
  readonly storeDir: string;
  /** Whose signatures count; `undefined` takes what nobody signed. */
  readonly keys: readonly PublicKey[] | undefined;
}

/**
 * Reads a narinfo and holds it against what was asked for: the path, the store directory, a signature by one of the
 * keys. A path that its own content address proves needs none, as in Nix; whoever reads its NAR then checks that proof.
 *
 * @param from - Where it came from, for messages.
 * @throws {CacheError} `CORRUPT` when it is none, or of another path; `FORBIDDEN` when no key signed it; `INVALID` for
 *   another store directory; `UNSUPPORTED` for a compression that we do not decode.
 */
export function checkNarInfo(
  text: string,
  storePathHash: string,
  from: string,
  { storeDir, keys }: NarInfoRules,
): SourcePath {
  if (/^\s*</.test(text)) throw new CacheError("CORRUPT", `${from} is a web page, no narinfo`);
  // Nix wants a space there, and some caches write none behind a list that is empty.
  const spaced = text.replaceAll(/^(\w+):$/gm, "$1: ");
  const info = within(from, () => parseNarInfo(spaced));
  if (!info.storePath.startsWith(`${storeDir}/`)) {
    throw new CacheError("INVALID", `${from} is of ${info.storePath}, outside of ${storeDir}`);
  }
  const storePath = within(from, () => parseStorePath(info.storePath, storeDir));
  if (storePath.hash !== storePathHash) {
    throw new CacheError("CORRUPT", `${from} is of another path, ${info.storePath}`);
  }
  const provedBy = requireTrust(storePath, info, from, keys);
  const compression = parseNarCompression(info.compression);
  if (compression === undefined) {
    throw new CacheError(
      "UNSUPPORTED",
      `${info.storePath} is compressed as ${JSON.stringify(info.compression)}, which is not decoded here`,
      { hint: "Copy it with Nix: nix copy --from the source, then flywheel push." },
    );
  }
  return {
    storePath,
    narHash: info.narHash.bytes.toString("hex"),
    narSize: info.narSize,
    references: info.references,
    ...(info.deriver === undefined ? {} : { deriver: info.deriver }),
    // Nix breaks down over a content address that is another path's.
    ...(info.ca !== undefined && isNamedBy(storePath, info) ? { ca: info.ca } : {}),
    signatures: info.signatures,
    compression,
    fileHash: info.fileHash?.bytes.toString("hex"),
    fileSize: info.fileSize,
    ...(provedBy === undefined ? {} : { provedBy }),
    location: info.url,
  };
}

/** @returns what has to prove the path, where no signature does. */
function requireTrust(
  storePath: StorePath,
  info: NarInfo,
  from: string,
  keys: readonly PublicKey[] | undefined,
): ContentAddress | undefined {
  if (keys === undefined) return undefined;
  const { ca, signatures } = info;
  const fingerprint = narInfoFingerprint({ ...info, storeDir: storePath.storeDir });
  if (signatures.some((signature) => isBy(keys, fingerprint, signature))) return undefined;
  if (ca !== undefined && isNamedBy(storePath, info)) return parseContentAddress(ca);
  throw untrusted(storePath, keys, signatures);
}

function untrusted(
  { path }: StorePath,
  keys: readonly PublicKey[],
  signatures: readonly string[],
): CacheError {
  if (signatures.length === 0) {
    return new CacheError("FORBIDDEN", `${path} is not signed`, {
      hint: "If you believe the source, take it with --unsigned instead of --key.",
    });
  }
  const given = keys.map(({ name }) => name);
  const signers = signatures.map((signature) =>
    JSON.stringify(signature.split(":")[0]).slice(1, -1),
  );
  const namesake = given.find((name) => signers.includes(name));
  return namesake === undefined
    ? new CacheError(
        "FORBIDDEN",
        `${path} is signed by ${signers.join(", ")}, and not by ${given.join(", ")} as --key wants it`,
        { hint: `Give the public key of who signed: --key ${signers[0]}:…` },
      )
    : new CacheError(
        "FORBIDDEN",
        `${path} has a signature by ${namesake} that the key given for that name does not verify`,
        {
          hint: `Compare --key ${namesake}:… with the public key that the source publishes.`,
        },
      );
}

/** Whether the path's name follows from the content address that it claims. */
function isNamedBy(storePath: StorePath, { ca, references }: NarInfo): boolean {
  return ca !== undefined && isContentAddressed(storePath, { ca, references });
}

/** A malformed signature is no signature, as for Nix. */
function isBy(keys: readonly PublicKey[], fingerprint: string, signature: string): boolean {
  try {
    return verifySignature(keys, fingerprint, signature);
  } catch {
    return false;
  }
}

function within<T>(from: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof CacheError)) throw error;
    throw new CacheError("CORRUPT", `${from}: ${error.message}`, { cause: error });
  }
}
