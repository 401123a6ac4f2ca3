import {
  isContentAddressed,
  type NarInfo,
  narInfoFingerprint,
  parseHash,
  parseSignature,
  parseStorePath,
  type PublicKey,
  verifySignature,
} from "@glorious/nix-store";

import { failure, ok, skipped, type Verdict, warning } from "../../doctor/finding.ts";
import { reasonOf, valueOf } from "../../doctor/probe.ts";
import { readerOf } from "../reader.ts";
import type { Snapshot } from "../snapshot.ts";
import { useCommand } from "./check-substituter.ts";
import { readKeyList, readTrustedKeys } from "./trusted-keys.ts";

/** The view's public key is trusted, name and value. */
export function checkPublicKey({ nix, user, server, path, target }: Snapshot): Verdict {
  const reader = readerOf(nix, user);
  if (reader === undefined) return skipped("Nix's settings are unknown");
  if (server.config.state !== "known") {
    return skipped(`the server does not tell its key: ${reasonOf(server.config)}`);
  }
  const current = readKeyList(server.config.value.config.publicKey);
  if (current.length === 0) return skipped("the server does not tell its key");
  const trusted = readTrustedKeys(reader.trustedPublicKeys);
  const good = current.find((key) => trusted.some((other) => isSameKey(key, other)));
  if (good !== undefined) return ok(`the view's key ${good.name} is trusted`);
  const names = current.map(({ name }) => name).join(" ");
  const narInfo = valueOf(path.narInfo);
  const signer = narInfo === undefined ? undefined : findSigner(narInfo, trusted, nix.storeDir);
  if (signer !== undefined) {
    return warning(
      `the view's newest key ${names} is not trusted, but ${signer} is, which signs as well`,
      "The view's key was rotated. Once the old one is retired, Nix refuses what the view gives.",
      useCommand(target, reader),
    );
  }
  const namesake = current.find((key) => trusted.some(({ name }) => name === key.name));
  if (namesake !== undefined) {
    const hasBoth = reader.trustedPublicKeys
      .flatMap(readKeyList)
      .some((key) => isSameKey(key, namesake));
    return failure(
      `the trusted key ${namesake.name} has another value than the server's`,
      hasBoth
        ? "Both values stand in trusted-public-keys, and of one name Nix takes the first alone. Remove the old one."
        : "The view's key was replaced, or the view was made anew, after Nix was configured.",
      useCommand(target, reader),
    );
  }
  const own = readTrustedKeys(valueOf(nix.settings)?.trustedPublicKeys ?? []);
  const isIgnored = own.some((key) => current.some((other) => isSameKey(key, other)));
  return failure(
    isIgnored
      ? `the daemon ignores your trust in ${names}: you are not a trusted user`
      : `the view's key ${names} is not in trusted-public-keys`,
    "Nix refuses what no trusted key has signed, and builds it instead.",
    useCommand(target, reader),
  );
}

/** Nix checks signatures at all. */
export function checkRequireSignatures({ nix, user }: Snapshot): Verdict {
  const reader = readerOf(nix, user);
  if (reader === undefined) return skipped("Nix's settings are unknown");
  if (reader.requireSignatures) return ok("signatures are required");
  return warning(
    "signatures are not required: require-sigs = false",
    "Nix takes whatever any substituter gives it; a wrong key does not show.",
    "grep -n require-sigs /etc/nix/nix.conf ~/.config/nix/nix.conf",
  );
}

/** A path's narinfo carries a signature that Nix accepts. */
export function checkSignature({ nix, user, path, target }: Snapshot): Verdict {
  const narInfo = valueOf(path.narInfo);
  if (narInfo === undefined) return skipped("there is no narinfo to verify");
  const reader = readerOf(nix, user);
  if (reader === undefined) return skipped("Nix's settings are unknown");
  if (isProvenByName(narInfo, nix.storeDir)) {
    return ok("the path's own name proves its content: it needs no signature");
  }
  const trusted = readTrustedKeys(reader.trustedPublicKeys);
  const signer = findSigner(narInfo, trusted, nix.storeDir);
  if (signer !== undefined) return ok(`signed by ${signer}`);
  const signers = narInfo.signatures.map(nameOf).join(" ");
  const cause =
    signers === ""
      ? "The narinfo has no signature at all."
      : `It is signed by ${signers}; Nix trusts ${trusted.map(({ name }) => name).join(" ") || "no key"}.`;
  const message = `no trusted key has signed ${narInfo.storePath}`;
  return reader.requireSignatures
    ? failure(message, cause, useCommand(target, reader))
    : warning(message, cause, useCommand(target, reader));
}

/** The first trusted key whose signature holds. */
export function findSigner(
  info: Pick<NarInfo, "storePath" | "narHash" | "narSize" | "references" | "signatures">,
  trusted: readonly PublicKey[],
  storeDir: string,
): string | undefined {
  const fingerprint = narInfoFingerprint({ ...info, storeDir });
  const signature = info.signatures.find((text) => verifySignature(trusted, fingerprint, text));
  return signature === undefined ? undefined : nameOf(signature);
}

/** What Nix wrote down of a narinfo, as {@link findSigner} takes it. */
export function withRemembered(
  narInfo: NarInfo,
  remembered: { readonly narHash: string; readonly signatures: readonly string[] },
): NarInfo {
  return {
    ...narInfo,
    narHash: parseHash(remembered.narHash),
    signatures: [...remembered.signatures],
  };
}

/** Content-addressed paths need no signature. */
function isProvenByName({ ca, references, storePath }: NarInfo, storeDir: string): boolean {
  if (ca === undefined) return false;
  try {
    return isContentAddressed(parseStorePath(storePath, storeDir), { ca, references });
  } catch {
    return false;
  }
}

function isSameKey(left: PublicKey, right: PublicKey): boolean {
  return left.name === right.name && left.bytes.equals(right.bytes);
}

function nameOf(signature: string): string {
  try {
    return parseSignature(signature).keyName;
  } catch {
    return "?";
  }
}
