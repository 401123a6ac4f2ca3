import { hkdfSync } from "node:crypto";

import {
  formatPublicKey,
  secretKeyFromSeed,
  type SecretKey,
  toPublicKey,
} from "@glorious/nix-store";

import { nameAfterKey } from "../commit/new-signing-key.ts";

/**
 * The signing keys of overlays. They follow from a secret of the server and the overlay's name, so that a job can be told
 * which key to trust before its overlay exists, and every replica tells it the same.
 */
export interface OverlayKeys {
  secretKey(overlayName: string): SecretKey;
  /** For `trusted-public-keys`. */
  publicKey(overlayName: string): string;
}

/** @param secret At least 32 bytes that nobody can guess. */
export function createOverlayKeys(secret: Uint8Array): OverlayKeys {
  const secretKey = (overlayName: string): SecretKey => {
    const info = `gloriousflywheel overlay signing key 1\n${overlayName}`;
    const seed = new Uint8Array(hkdfSync("sha256", secret, "", info, 32));
    return nameAfterKey(secretKeyFromSeed(overlayName, seed));
  };
  return {
    secretKey,
    publicKey: (overlayName) => formatPublicKey(toPublicKey(secretKey(overlayName))),
  };
}
