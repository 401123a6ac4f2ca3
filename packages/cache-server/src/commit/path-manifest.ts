import { CacheError } from "@glorious/core";
import {
  formatContentAddress,
  isContentAddressed,
  parseContentAddress,
  parseSha256Hex,
  parseSignature,
  parseStorePath,
  parseStorePathBaseName,
} from "@glorious/nix-store";

import { mergeClientSignatures } from "../index/signatures.ts";

/** What a client says of a path, checked and in one notation, whichever protocol it came by. */
export interface PathManifest {
  readonly storePathHash: string;
  readonly storePath: string;
  /** Lowercase hexadecimal SHA-256. */
  readonly narHash: string;
  readonly narSize: number;
  /** Base names, sorted, each once. */
  readonly references: readonly string[];
  readonly deriver: string | undefined;
  /** Gives the path its name: one that does not is left out, as Nix 2.34 breaks down over such a narinfo. */
  readonly ca: string | undefined;
  readonly system: string | undefined;
  /** Well-formed signatures that the client brings along. */
  readonly signatures: readonly string[];
}

/** The same as it comes in: any notation of the hash, full paths or base names for the deriver. */
export interface RawPathManifest {
  readonly storePath: string;
  readonly narHash: string;
  readonly narSize: number;
  readonly references: readonly string[];
  readonly deriver?: string | null | undefined;
  readonly ca?: string | null | undefined;
  readonly system?: string | null | undefined;
  readonly signatures: readonly string[];
}

/** More than any real path has; bounds what one row can hold. */
const MAX_REFERENCES = 50_000;

/** @throws {CacheError} `INVALID` naming the field, for anything that could not be served to Nix. */
export function parsePathManifest(raw: RawPathManifest, storeDir: string): PathManifest {
  const storePath = within("store path", () => parseStorePath(raw.storePath, storeDir));
  if (!Number.isSafeInteger(raw.narSize) || raw.narSize <= 0) {
    throw new CacheError("INVALID", `The NAR size ${raw.narSize} is no positive whole number`);
  }
  if (raw.references.length > MAX_REFERENCES) {
    throw new CacheError(
      "INVALID",
      `${raw.references.length} references are more than ${MAX_REFERENCES}`,
    );
  }
  const references = raw.references.map((reference) =>
    within("references", () => parseStorePathBaseName(reference, storeDir).baseName),
  );
  const { deriver, system } = raw;
  const ca = present(raw.ca) ? normalizeCa(raw.ca) : undefined;
  const isProper = ca !== undefined && isContentAddressed(storePath, { ca, references });
  return {
    storePathHash: storePath.hash,
    storePath: storePath.path,
    narHash: within("NAR hash", () => parseSha256Hex(raw.narHash)),
    narSize: raw.narSize,
    references: [...new Set(references)].sort(),
    deriver: present(deriver) ? within("deriver", () => baseName(deriver, storeDir)) : undefined,
    ca: isProper ? ca : undefined,
    system: present(system) && /^[\w.+-]{1,64}$/.test(system) ? system : undefined,
    // Nix itself passes on signatures that it cannot read; they are of no use to anybody.
    signatures: mergeClientSignatures([], raw.signatures.filter(isSignature)),
  };
}

function normalizeCa(text: string): string {
  return within("content address", () => formatContentAddress(parseContentAddress(text)));
}

function present(value: string | null | undefined): value is string {
  return value !== undefined && value !== null && value !== "" && value !== "unknown-deriver";
}

function baseName(text: string, storeDir: string): string {
  return text.startsWith("/")
    ? parseStorePath(text, storeDir).baseName
    : parseStorePathBaseName(text, storeDir).baseName;
}

function isSignature(text: string): boolean {
  try {
    parseSignature(text);
    return true;
  } catch {
    return false;
  }
}

function within<T>(field: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (!(error instanceof CacheError)) throw error;
    throw new CacheError("INVALID", `The ${field} is wrong: ${error.message}`, {
      cause: error,
      hint: error.hint,
    });
  }
}
