import { CacheError } from "@glorious/core";
import {
  formatContentAddress,
  parseHash,
  parseSha256Hex,
  parseStorePath,
  parseStorePathBaseName,
  type StorePath,
} from "@glorious/nix-store";
import * as v from "valibot";

import type { PathInfo } from "./path-info.ts";

/** A path's entry before it is known where its files lie. */
export type ParsedPathInfo = Omit<PathInfo, "realPath">;

/** What `nix path-info --json` told. */
export interface PathInfoAnswer {
  readonly valid: readonly ParsedPathInfo[];
  /** The paths asked for that this store does not have. */
  readonly absent: readonly string[];
}

/** How `--json-format 2` writes a content address. */
const StructuredAddress = v.object({
  method: v.picklist(["text", "flat", "nar", "git"]),
  hash: v.string(),
});
const Entry = v.object({
  narHash: v.string(),
  narSize: v.pipe(v.number(), v.safeInteger(), v.minValue(1)),
  references: v.array(v.string()),
  deriver: v.nullish(v.string()),
  ca: v.nullish(v.union([v.string(), StructuredAddress])),
  signatures: v.optional(v.array(v.string()), []),
});
const ListEntry = v.object({ path: v.string(), valid: v.optional(v.boolean(), true) });
const KeyedEntries = v.record(v.string(), v.nullable(v.unknown()));
const Enveloped = v.object({ info: KeyedEntries, storeDir: v.string(), version: v.number() });

/**
 * Parses the output of `nix path-info --json` in each of its shapes: a list with `path` in every
 * entry (up to Nix 2.18), an object keyed by store path (2.19 and later, `--json-format 1`), and an
 * envelope keyed by base name (`--json-format 2`).
 *
 * @param storeDir - Where the store's paths lie, when the output does not say so itself.
 * @throws {CacheError} `UNSUPPORTED` when it has none of these shapes.
 */
export function parsePathInfoJson(text: string, storeDir: string): PathInfoAnswer {
  const json = parseJson(text);
  const valid: ParsedPathInfo[] = [];
  const absent: string[] = [];
  const add = (storePath: StorePath, entry: unknown): void => {
    if (entry === null) absent.push(storePath.path);
    else valid.push(toPathInfo(storePath, check(Entry, entry, storePath.path)));
  };

  if (Array.isArray(json)) {
    for (const item of json) {
      const { path, valid: isValid } = check(ListEntry, item, "an entry");
      add(parseStorePath(path, storeDir), isValid ? item : null);
    }
  } else if (v.is(Enveloped, json)) {
    for (const [baseName, entry] of Object.entries(json.info)) {
      add(parseStorePathBaseName(baseName, json.storeDir), entry);
    }
  } else {
    for (const [path, entry] of Object.entries(check(KeyedEntries, json, "the output"))) {
      add(parseStorePath(path, storeDir), entry);
    }
  }
  return { valid, absent };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw unsupported("its output is no JSON", error);
  }
}

function check<Schema extends v.GenericSchema>(
  schema: Schema,
  value: unknown,
  what: string,
): v.InferOutput<Schema> {
  const result = v.safeParse(schema, value);
  if (result.success) return result.output;
  const issue = result.issues[0];
  throw unsupported(`${what}: ${v.getDotPath(issue) ?? "value"}: ${issue.message}`, undefined);
}

function unsupported(reason: string, cause: unknown): CacheError {
  return new CacheError("UNSUPPORTED", `nix path-info answered in an unknown form: ${reason}`, {
    cause,
    hint: "This version of Nix may be newer than what we understand; please report it.",
  });
}

function toPathInfo(storePath: StorePath, entry: v.InferOutput<typeof Entry>): ParsedPathInfo {
  const ca = toContentAddress(entry.ca);
  return {
    storePath,
    narHash: parseSha256Hex(entry.narHash),
    narSize: entry.narSize,
    references: entry.references.map((reference) => baseNameOf(reference, storePath.storeDir)),
    ...(isKnown(entry.deriver) && { deriver: baseNameOf(entry.deriver, storePath.storeDir) }),
    ...(ca !== undefined && { ca }),
    signatures: entry.signatures,
  };
}

function toContentAddress(ca: v.InferOutput<typeof Entry>["ca"]): string | undefined {
  if (typeof ca === "string") return ca === "" ? undefined : ca;
  if (ca === null || ca === undefined) return undefined;
  return formatContentAddress({ method: ca.method, hash: parseHash(ca.hash) });
}

function isKnown(text: string | null | undefined): text is string {
  return text !== undefined && text !== null && text !== "" && text !== "unknown-deriver";
}

function baseNameOf(reference: string, storeDir: string): string {
  return reference.startsWith("/")
    ? parseStorePath(reference, storeDir).baseName
    : parseStorePathBaseName(reference, storeDir).baseName;
}
