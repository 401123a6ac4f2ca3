import type { ExchangeWish, IdentitySource } from "@glorious/cache-client";
import type { CacheError } from "@glorious/core";

/** How an exchanged token was got: enough to get another. */
export interface SavedIdentity extends ExchangeWish {
  /** Holds secrets. */
  readonly source: IdentitySource;
  /** What the identity token is to be made for. */
  readonly audience: string;
}

/** Reads it from a file's JSON. @throws {CacheError} what `malformed` makes, never a value. */
export function parseSavedIdentity(value: unknown, malformed: () => CacheError): SavedIdentity {
  const fields = toFields(value);
  const audience = fields.get("audience");
  const source = parseSource(toFields(fields.get("source")));
  const view = fields.get("view");
  const mode = fields.get("mode");
  const isView = view === undefined || typeof view === "string";
  const isMode = mode === undefined || mode === "read" || mode === "write";
  if (typeof audience !== "string" || source === undefined || !isView || !isMode) throw malformed();
  return {
    source,
    audience,
    ...(view === undefined ? {} : { view }),
    ...(mode === undefined ? {} : { mode }),
  };
}

function parseSource(fields: ReadonlyMap<string, unknown>): IdentitySource | undefined {
  const read = (name: string): string => {
    const text = fields.get(name);
    return typeof text === "string" ? text : "";
  };
  const [kind, url, requestToken] = [fields.get("kind"), read("url"), read("requestToken")];
  const [token, path] = [read("token"), read("path")];
  if (kind === "request" && url !== "" && requestToken !== "") return { kind, url, requestToken };
  if (kind === "token" && token !== "") return { kind, token };
  return kind === "file" && path !== "" ? { kind, path } : undefined;
}

function toFields(value: unknown): ReadonlyMap<string, unknown> {
  return new Map(typeof value === "object" && value !== null ? Object.entries(value) : []);
}
