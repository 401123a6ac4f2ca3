import { parsePublicKey, type PublicKey } from "@glorious/nix-store";

/**
 * The keys that Nix goes by: of several with one name the first counts alone, malformed ones not at all.
 *
 * @see `getDefaultPublicKeys` in NixOS/nix, src/libstore/keys.cc.
 */
export function readTrustedKeys(texts: readonly string[]): PublicKey[] {
  const keys = new Map<string, PublicKey>();
  for (const text of texts) {
    const key = parseKey(text);
    if (key !== undefined && !keys.has(key.name)) keys.set(key.name, key);
  }
  return [...keys.values()];
}

/** The keys in a text with words between spaces. */
export function readKeyList(text: string | undefined): PublicKey[] {
  return (text ?? "")
    .split(/\s+/)
    .map(parseKey)
    .filter((key) => key !== undefined);
}

function parseKey(text: string): PublicKey | undefined {
  try {
    return parsePublicKey(text);
  } catch {
    return undefined;
  }
}
