import {
  formatNarInfo,
  type generateSecretKey,
  narInfoFingerprint,
  parseHash,
  signFingerprint,
} from "@glorious/nix-store";

/** The narinfo of a path that some cache has, signed by these keys; nothing is there where it says that its NAR is. */
export function makeNarInfo(
  storePath: string,
  ...signers: readonly ReturnType<typeof generateSecretKey>[]
): string {
  const facts = {
    storePath,
    narHash: parseHash("0".repeat(64), "sha256"),
    narSize: 120,
    references: [],
  };
  const fingerprint = narInfoFingerprint({ ...facts, storeDir: "/nix/store" });
  const signatures = signers.map((signer) => signFingerprint(signer, fingerprint));
  return formatNarInfo({ ...facts, url: "nar/x.nar", compression: "none", signatures });
}
