import { createHash } from "node:crypto";

import type { ContentAddress } from "./content-address.ts";
import { createNarReader } from "./nar-reader.ts";

/** Takes a NAR and tells whether its content is what a content address says. */
export interface ContentCheck {
  /** @throws {CacheError} `CORRUPT` when it is no NAR, where that is looked into. */
  write(chunk: Uint8Array): void;
  /** @throws {CacheError} `TRUNCATED` when it is not complete, where that is looked into. */
  end(): boolean;
}

/**
 * Begins to hold a NAR against a content address.
 *
 * Git's trees are hashed in a way of their own, and what refers to itself without its own name: both are never right
 * here, so that somebody else has to vouch for them.
 */
export function createContentCheck({ method, hash }: ContentAddress): ContentCheck {
  const digest = createHash(hash.algorithm);
  const isSame = (): boolean => digest.digest().equals(hash.bytes);
  if (method === "git") return { write: () => {}, end: () => false };
  if (method === "nar") return { write: (chunk) => void digest.update(chunk), end: isSame };
  let isFile = false;
  const reader = createNarReader({
    regular(names, { executable }) {
      isFile = names.length === 0 && !executable;
    },
    contents(chunk) {
      if (isFile) digest.update(chunk);
    },
  });
  return {
    write: (chunk) => reader.write(chunk),
    end() {
      reader.end();
      return isFile && isSame();
    },
  };
}
