import { valueOf } from "../doctor/probe.ts";
import type { NixSettings } from "./nix-settings.ts";
import type { NixFacts, StoreFacts, UserFacts } from "./snapshot.ts";

/** Who reads from caches when this user builds, and by which settings. */
export interface Reader {
  readonly kind: "user" | "daemon";
  /** A daemon takes substituters, keys and the netrc file from trusted users only. */
  readonly isTrusted: boolean;
  readonly substituters: readonly string[];
  readonly trustedPublicKeys: readonly string[];
  readonly requireSignatures: boolean;
  readonly substitute: boolean;
  readonly netrcFile: string | undefined;
}

/**
 * Tells who substitutes and what is in force for them; `undefined` when Nix's settings are unknown.
 *
 * A daemon goes by the machine's settings. A trusted user's own override them; of any other user's it
 * takes the substituters alone, and of these the ones that the machine names.
 *
 * @see `ClientSettings::apply` in NixOS/nix, src/libstore/daemon.cc.
 */
export function readerOf(
  nix: Pick<NixFacts, "settings" | "systemSettings" | "store">,
  user: UserFacts,
): Reader | undefined {
  const own = valueOf(nix.settings);
  if (own === undefined) return undefined;
  const store = valueOf(nix.store);
  if (store === undefined || !isDaemon(store)) return { kind: "user", isTrusted: true, ...own };
  const system = valueOf(nix.systemSettings);
  if (system === undefined) return undefined;
  if (store.isTrusted ?? isNamed(system.trustedUsers, user)) {
    return {
      kind: "daemon",
      isTrusted: true,
      ...own,
      // That one version drops the setting on its way to the daemon (NixOS/nix#15408).
      netrcFile: store.version?.startsWith("2.34.0") === true ? system.netrcFile : own.netrcFile,
    };
  }
  return {
    kind: "daemon",
    isTrusted: false,
    ...system,
    substituters: own.substituters.filter((given) => isAllowed(given, system)),
  };
}

/** Whether the store belongs to a daemon. */
function isDaemon(store: StoreFacts): boolean {
  return /^(daemon|unix:|ssh-ng:)/.test(store.url);
}

/** Nix compares the addresses letter by letter, but for one slash at the end. */
function isAllowed(substituter: string, system: NixSettings): boolean {
  const allowed = new Set([...system.substituters, ...system.trustedSubstituters]);
  return allowed.has(substituter) || allowed.has(`${substituter}/`);
}

function isNamed(trustedUsers: readonly string[], user: UserFacts): boolean {
  return trustedUsers.some(
    (name) =>
      name === "*" ||
      name === user.name ||
      (name.startsWith("@") && user.groups.includes(name.slice(1))),
  );
}
