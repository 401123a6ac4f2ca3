import { CacheError, describeError } from "@glorious/core";

import { parseSha256Hex } from "./hash.ts";
import { isStorePathName, parseStorePathBaseName } from "./store-path.ts";

/** Which output of which derivation, as Nix up to 2.34 names it. */
export interface RealisationId {
  /** SHA-256 of the derivation modulo its fixed outputs, 64 hex digits. */
  readonly derivationHash: string;
  readonly outputName: string;
}

/** Where a content-addressed output ended up: `realisations/<id>.doi`, Nix up to 2.34. */
export interface Realisation {
  readonly id: RealisationId;
  /** Base name of the store path. */
  readonly outPath: string;
  /** `<key name>:<base64>` */
  readonly signatures: readonly string[];
  /** Formatted ids of the realisations it was built from, with their base names. */
  readonly dependentRealisations: ReadonlyMap<string, string>;
}

/**
 * Parses `sha256:<64 hex>!<output>`, the name of a realisation.
 *
 * @throws {CacheError} `INVALID` when it is anything else.
 */
export function parseRealisationId(text: string): RealisationId {
  const [, hex, outputName] = /^sha256:([0-9a-f]{64})!(.*)$/s.exec(text) ?? [];
  if (hex === undefined || outputName === undefined || !isStorePathName(outputName)) {
    throw new CacheError(
      "INVALID",
      `${JSON.stringify(text.slice(0, 300))} is no realisation: sha256:<64 hex digits>!<output> is wanted`,
    );
  }
  return { derivationHash: parseSha256Hex(hex), outputName };
}

/** Formats the name of a realisation. */
export function formatRealisationId(id: RealisationId): string {
  return `sha256:${id.derivationHash}!${id.outputName}`;
}

/**
 * Parses the text of `realisations/<id>.doi`; unknown fields are ignored, as Nix does.
 *
 * @throws {CacheError} `CORRUPT` when it is not a realisation.
 */
export function parseRealisation(text: string): Realisation {
  return readRecord("realisation", text, (record) => ({
    id: parseRealisationId(requireText(record["id"], "id")),
    outPath: requireBaseName(record["outPath"]),
    signatures: requireList(record["signatures"]).map((signature) =>
      requireText(signature, "a signature"),
    ),
    dependentRealisations: parseDependencies(record["dependentRealisations"]),
  }));
}

/** Formats a realisation byte for byte as Nix writes it: compact JSON, keys and signatures sorted, no newline. */
export function formatRealisation(realisation: Realisation): string {
  return JSON.stringify({
    ...fingerprintFields(realisation),
    signatures: sortedOnce(realisation.signatures),
  });
}

/** The text that the signatures of a realisation cover: what is formatted, without them. */
export function realisationFingerprint(realisation: Omit<Realisation, "signatures">): string {
  return JSON.stringify(fingerprintFields(realisation));
}

/** Which output of which resolved derivation, as Nix since 2.35 names it. */
export interface BuildTraceKey {
  /** Base name of the derivation, `<hash>-<name>.drv`. */
  readonly drvPath: string;
  readonly outputName: string;
}

/** Where a content-addressed output ended up: `build-trace-v2/<drvPath>/<outputName>.doi`, Nix since 2.35. */
export interface BuildTraceEntry {
  /** Base name of the store path. */
  readonly outPath: string;
  /** `<key name>:<base64>` */
  readonly signatures: readonly string[];
}

/**
 * Checks the two path segments that name a build trace entry.
 *
 * @throws {CacheError} `INVALID` when they are not a derivation's base name and an output name.
 */
export function parseBuildTraceKey(drvPath: string, outputName: string): BuildTraceKey {
  const { baseName } = parseStorePathBaseName(drvPath);
  if (!baseName.endsWith(".drv")) {
    throw new CacheError("INVALID", `${JSON.stringify(drvPath)} is no derivation`);
  }
  if (!isStorePathName(outputName)) {
    throw new CacheError(
      "INVALID",
      `${JSON.stringify(outputName.slice(0, 300))} is no output name`,
    );
  }
  return { drvPath: baseName, outputName };
}

/**
 * Parses the text of a build trace entry; unknown fields are ignored, as Nix does.
 *
 * Signatures are objects, or strings as in older files.
 *
 * @throws {CacheError} `CORRUPT` when it is not a build trace entry.
 * @see `src/libstore/realisation.cc` in NixOS/nix.
 */
export function parseBuildTraceEntry(text: string): BuildTraceEntry {
  return readRecord("build trace entry", text, (record) => ({
    outPath: requireBaseName(record["outPath"]),
    signatures: requireList(record["signatures"]).map(parseSignatureObject),
  }));
}

/** Formats a build trace entry as Nix writes it: compact JSON, keys and signatures sorted, no newline. */
export function formatBuildTraceEntry(entry: BuildTraceEntry): string {
  return JSON.stringify({
    outPath: entry.outPath,
    signatures: sortedOnce(entry.signatures).map((signature) => {
      const colon = signature.indexOf(":");
      return { keyName: signature.slice(0, colon), sig: signature.slice(colon + 1) };
    }),
  });
}

/** The text that the signatures of a build trace entry cover. */
export function buildTraceFingerprint(
  key: BuildTraceKey,
  entry: Omit<BuildTraceEntry, "signatures">,
): string {
  return JSON.stringify({
    key: { drvPath: key.drvPath, outputName: key.outputName },
    value: { outPath: entry.outPath },
  });
}

function fingerprintFields(realisation: Omit<Realisation, "signatures">): object {
  const dependencies = [...realisation.dependentRealisations];
  dependencies.sort(([left], [right]) => (left < right ? -1 : 1));
  return {
    dependentRealisations: Object.fromEntries(dependencies),
    id: formatRealisationId(realisation.id),
    outPath: realisation.outPath,
  };
}

function sortedOnce(signatures: readonly string[]): string[] {
  return [...new Set(signatures)].sort();
}

function readRecord<T>(
  kind: string,
  text: string,
  read: (record: Readonly<Record<string, unknown>>) => T,
): T {
  try {
    return read(requireRecord(JSON.parse(text), "it"));
  } catch (cause) {
    throw new CacheError("CORRUPT", `The ${kind} is corrupt: ${describeError(cause)}`, { cause });
  }
}

function parseDependencies(value: unknown): Map<string, string> {
  const record = requireRecord(value ?? {}, "dependentRealisations");
  return new Map(
    Object.entries(record).map(([id, outPath]) => [
      formatRealisationId(parseRealisationId(id)),
      requireBaseName(outPath),
    ]),
  );
}

function parseSignatureObject(value: unknown): string {
  if (typeof value === "string") {
    if (value.indexOf(":") < 1) throw new Error("a signature names no key");
    return value;
  }
  const record = requireRecord(value, "a signature");
  const keyName = requireText(record["keyName"], "keyName");
  if (keyName === "" || keyName.includes(":")) throw new Error("keyName is no key name");
  return `${keyName}:${requireText(record["sig"], "sig")}`;
}

function requireBaseName(value: unknown): string {
  return parseStorePathBaseName(requireText(value, "outPath")).baseName;
}

function requireText(value: unknown, name: string): string {
  if (typeof value !== "string") throw new Error(`${name} is no text`);
  return value;
}

function requireList(value: unknown): readonly unknown[] {
  const list: unknown = value ?? [];
  if (!Array.isArray(list)) throw new Error("signatures is no list");
  return list;
}

function requireRecord(value: unknown, name: string): Readonly<Record<string, unknown>> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new Error(`${name} is no object`);
  }
  return Object.fromEntries(Object.entries(value));
}
