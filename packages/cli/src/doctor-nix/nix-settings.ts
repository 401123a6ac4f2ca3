/** The settings that decide whether Nix uses a cache. */
export interface NixSettings {
  readonly substitute: boolean;
  readonly substituters: readonly string[];
  readonly trustedSubstituters: readonly string[];
  readonly trustedPublicKeys: readonly string[];
  readonly trustedUsers: readonly string[];
  readonly requireSignatures: boolean;
  readonly netrcFile: string | undefined;
  /** How long Nix takes a path as absent. */
  readonly negativeTtlSeconds: number;
  /** How long Nix believes a narinfo. */
  readonly positiveTtlSeconds: number;
  /** The authorities trusted for TLS; only newer versions have the setting. */
  readonly caFile: string | undefined;
}

/**
 * Reads what `nix show-config --json` and `nix config show --json` print, in any version from 2.4 on.
 * A setting that is missing has Nix's default.
 *
 * @throws {SyntaxError} when it is no JSON.
 */
export function parseNixSettings(json: string): NixSettings {
  const root: unknown = JSON.parse(json);
  const read = (name: string): unknown => property(property(root, name), "value");
  const words = (name: string): string[] => {
    const value = read(name);
    return Array.isArray(value) ? value.filter((word) => typeof word === "string") : [];
  };
  const flag = (name: string): boolean => read(name) !== false;
  const text = (name: string): string | undefined => {
    const value = read(name);
    return typeof value === "string" && value !== "" ? value : undefined;
  };
  const number = (name: string, fallback: number): number => {
    const value = read(name);
    return typeof value === "number" ? value : fallback;
  };
  return {
    substitute: flag("substitute"),
    substituters: words("substituters"),
    trustedSubstituters: words("trusted-substituters"),
    trustedPublicKeys: words("trusted-public-keys"),
    trustedUsers: words("trusted-users"),
    requireSignatures: flag("require-sigs"),
    netrcFile: text("netrc-file"),
    negativeTtlSeconds: number("narinfo-cache-negative-ttl", 3600),
    positiveTtlSeconds: number("narinfo-cache-positive-ttl", 30 * 24 * 3600),
    caFile: text("ssl-cert-file"),
  };
}

function property(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null && Object.hasOwn(value, name)
    ? (value as Readonly<Record<string, unknown>>)[name]
    : undefined;
}
