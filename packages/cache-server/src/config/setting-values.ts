import { CacheError, parseDurationMs, parseSizeBytes } from "@glorious/core";

import { isPartSize, PART_SIZE_HINT } from "../ingest/part-size.ts";

/** Where to listen. */
export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

/** A key of tokens as configured: the secret itself stays in its file. */
export interface TokenKeySetting {
  readonly algorithm: "HS256" | "RS256";
  readonly file: string;
  readonly kid?: string;
}

/** Timers take no more than 24 days and fire at once instead; some settings are doubled first. */
const MAX_TIMER_MS = 10 * 24 * 3_600_000;

/** Reads a duration that something waits for. */
export function parseTimerMs(text: string): number {
  const durationMs = parseDurationMs(text);
  if (durationMs <= MAX_TIMER_MS) return durationMs;
  throw invalid(`${JSON.stringify(text)} is too long to wait for`, "Ten days (10d) are the most.");
}

/** Reads how many bytes a second may pass. */
export function parseRate(text: string): number {
  const bytes = parseSizeBytes(text);
  if (bytes >= 1024) return bytes;
  throw invalid(`${JSON.stringify(text)} a second is too slow`, "1 KiB is the least.");
}

/** Reads `host:port`, `[ipv6]:port` or `:port` (all addresses). */
export function parseListen(text: string): ListenAddress {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]*)):(\d{1,5})$/.exec(text.trim());
  const port = Number(match?.[3] ?? Number.NaN);
  if (match === null || port > 65_535) {
    throw invalid(
      `${JSON.stringify(text)} is no address and port`,
      "Write host:port, such as 127.0.0.1:7480.",
    );
  }
  const host = match[1] ?? match[2] ?? "";
  return { host: host === "" || host === "*" ? "0.0.0.0" : host, port };
}

/** Reads an http or https address and ends it with a slash. */
export function parsePublicUrl(text: string): string {
  let url: URL;
  try {
    url = new URL(text);
  } catch (cause) {
    throw invalid(
      `${JSON.stringify(text)} is no URL`,
      "Write it with its scheme: https://cache.example.org.",
      cause,
    );
  }
  if (
    !["http:", "https:"].includes(url.protocol) ||
    url.search !== "" ||
    url.hash !== "" ||
    url.username !== ""
  ) {
    throw invalid(
      `${JSON.stringify(text)} is no plain http or https URL`,
      "Leave out query, fragment and user.",
    );
  }
  return url.href.endsWith("/") ? url.href : `${url.href}/`;
}

export function parsePath(text: string): string {
  if (text === "" || text.includes("\0"))
    throw invalid("the path is empty", "Give a file system path.");
  return text;
}

export function parseText(text: string): string {
  if (text === "") throw invalid("the value is empty", "Leave the setting out instead.");
  return text;
}

/** Reads the name of an HTTP header. */
export function parseHeaderName(text: string): string {
  if (/^[A-Za-z0-9-]{1,64}$/.test(text)) return text;
  throw invalid(`${JSON.stringify(text)} is no header's name`, "Write it as X-Real-IP.");
}

/** Reads the path of an address and ends it with a slash. */
export function parseUrlPath(text: string): string {
  if (!/^\/[\w./~-]*$/.test(text) || text.includes("//")) {
    throw invalid(`${JSON.stringify(text)} is no path of an address`, "Write it as /_store/.");
  }
  return text.endsWith("/") ? text : `${text}/`;
}

export function parseList(text: string): readonly string[] {
  return text
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
}

export function parseBoolean(text: string): boolean {
  return parseChoice(text, ["true", "false"]) === "true";
}

export function parseChoice<const Choice extends string>(
  text: string,
  choices: readonly Choice[],
): Choice {
  const choice = choices.find((candidate) => candidate === text);
  if (choice === undefined) {
    throw invalid(
      `${JSON.stringify(text)} is none of its values`,
      `Write one of ${choices.join(", ")}.`,
    );
  }
  return choice;
}

export function parseWhole(
  text: string,
  { min = 1, max = Number.MAX_SAFE_INTEGER }: { readonly min?: number; readonly max?: number } = {},
): number {
  const value = /^\d+$/.test(text.trim()) ? Number(text) : Number.NaN;
  if (!(value >= min && value <= max)) {
    throw invalid(
      `${JSON.stringify(text)} is no whole number in range`,
      `Write one from ${min} to ${max}.`,
    );
  }
  return value;
}

/** Reads how many NAR bytes a part of an upload has. */
export function parsePartSize(text: string): number {
  const sizeBytes = parseSizeBytes(text);
  if (isPartSize(sizeBytes)) return sizeBytes;
  throw invalid(`${JSON.stringify(text)} is no size of a part`, PART_SIZE_HINT);
}

/** Reads a JSON list of keys; the file gives the same list in YAML. */
export function parseTokenKeys(text: string): readonly TokenKeySetting[] {
  const hint =
    'Write [{"algorithm": "HS256", "file": "/path"}], with "kid" where there are several.';
  let list: unknown;
  try {
    list = JSON.parse(text);
  } catch (cause) {
    throw invalid("the value is no JSON list", hint, cause);
  }
  if (!Array.isArray(list) || list.length === 0)
    throw invalid("the value is no list of keys", hint);
  return list.map((entry: unknown) => {
    const { algorithm, file, kid, ...rest } = (entry ?? {}) as Record<string, unknown>;
    const isKnown = algorithm === "HS256" || algorithm === "RS256";
    const isKid = kid === undefined || typeof kid === "string";
    if (!isKnown || typeof file !== "string" || !isKid || Object.keys(rest).length > 0) {
      throw invalid("an entry of the list is no key", hint);
    }
    return { algorithm, file, ...(kid === undefined ? {} : { kid }) };
  });
}

function invalid(message: string, hint: string, cause?: unknown): CacheError {
  return new CacheError("CONFIG", message, { hint, cause });
}
