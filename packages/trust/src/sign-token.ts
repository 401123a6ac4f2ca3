import { CompactSign } from "jose";

import { formatTokenClaims, type TokenClaims } from "./token-claims.ts";
import { type TokenKey, toSigningKey } from "./token-key.ts";

/**
 * Makes a token that says `claims`, in the form Attic's servers and clients read too.
 *
 * Nothing is added: no expiry, no id, no start unless the claims have them. A token for a server with
 * a clock of its own wants a `notBeforeMs` about a minute back, because Attic allows no drift there.
 *
 * @throws {CacheError} `CONFIG` when the key cannot sign, `INVALID` when a pattern is malformed.
 */
export async function signToken(key: TokenKey, claims: TokenClaims): Promise<string> {
  const payload = Buffer.from(JSON.stringify(formatTokenClaims(claims)));
  return new CompactSign(payload)
    .setProtectedHeader({
      alg: key.algorithm,
      typ: "JWT",
      ...(key.kid === undefined ? {} : { kid: key.kid }),
    })
    .sign(toSigningKey(key));
}
