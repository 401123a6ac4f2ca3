import type { StorePath } from "@glorious/nix-store";

/** What is known about a valid store path, wherever its files lie. */
export interface PathFacts {
  readonly storePath: StorePath;
  /** SHA-256 of the uncompressed NAR, 64 lowercase hex digits. */
  readonly narHash: string;
  /** Bytes of the uncompressed NAR. */
  readonly narSize: number;
  /** Base names; the path itself may be among them. */
  readonly references: readonly string[];
  /** Base name of the derivation that made it. */
  readonly deriver?: string;
  /** The content address, when it has one: `fixed:r:sha256:…`. */
  readonly ca?: string;
  /** `<key name>:<base64>` each. */
  readonly signatures: readonly string[];
}

/** What the Nix database knows about a valid store path, and where its files lie. */
export interface PathInfo extends PathFacts {
  /** The path on this machine's disk; differs from the store path for a store below another root. */
  readonly realPath: string;
}
