import { CacheError } from "@glorious/core";

import type { FetchDocument } from "./fetch-document.ts";

/**
 * Asks an issuer where its keys are.
 *
 * @throws {CacheError} `CORRUPT` when its discovery document is none, is another issuer's, or names an address that
 *   keys must not come from; and what `fetch` throws.
 * @see OpenID Connect Discovery 1.0, sections 4.1 to 4.3.
 */
export async function findKeysAddress(issuer: string, fetch: FetchDocument): Promise<URL> {
  const url = requireKeysAddress(
    `${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`,
    "The issuer",
  );
  const text = await fetch(url);
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (cause) {
    throw new CacheError("CORRUPT", `The discovery document of ${issuer} is no JSON`, { cause });
  }
  const fields = new Map<string, unknown>(
    typeof document === "object" && document !== null ? Object.entries(document) : [],
  );
  if (fields.get("issuer") !== issuer) {
    throw new CacheError("CORRUPT", `The discovery document of ${issuer} is another issuer's`, {
      hint: "Write the issuer in the policy exactly as its document and its tokens do.",
    });
  }
  const address = fields.get("jwks_uri");
  if (typeof address !== "string") {
    throw new CacheError("CORRUPT", `The discovery document of ${issuer} names no key set`);
  }
  return requireKeysAddress(address, `The key set of ${issuer}`);
}

/**
 * An address that an issuer's keys may come from: https, or http on this very machine.
 *
 * @throws {CacheError} `CORRUPT` naming `what`.
 */
export function requireKeysAddress(text: string, what: string): URL {
  const url = URL.parse(text);
  if (url !== null && url.username === "" && (url.protocol === "https:" || isOwnMachine(url))) {
    return url;
  }
  throw new CacheError("CORRUPT", `${what} is at no https address`, {
    hint: "Whoever can change the keys on their way can sign for everybody; give a jwksFile where there is no TLS.",
  });
}

function isOwnMachine({ protocol, hostname }: URL): boolean {
  return (
    protocol === "http:" &&
    (hostname === "localhost" || hostname === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(hostname))
  );
}
