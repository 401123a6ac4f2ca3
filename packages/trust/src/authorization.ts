/** What a request brought to prove itself. */
export interface Credentials {
  readonly token: string;
}

/**
 * Reads the token out of an `Authorization` header: `Bearer <token>`, or `Basic` with the token as
 * the password, as Nix sends it from a netrc file; the user name is ignored. The scheme's case does not matter.
 *
 * @returns `undefined` when the header is absent, of another scheme, or holds no token.
 */
export function parseAuthorization(header: string | undefined): Credentials | undefined {
  if (header === undefined) return undefined;
  const [, scheme, value] = /^([A-Za-z]+) +([\x21-\x7E]+)$/.exec(header.trim()) ?? [];
  if (scheme === undefined || value === undefined) return undefined;
  switch (scheme.toLowerCase()) {
    case "bearer":
      return { token: value };
    case "basic": {
      const login = Buffer.from(value, "base64").toString("utf8");
      const colon = login.indexOf(":");
      const token = colon === -1 ? "" : login.slice(colon + 1);
      return token === "" ? undefined : { token };
    }
    default:
      return undefined;
  }
}
