import type { NetrcEntry } from "../user-files/netrc.ts";

/** The entries that concern a host, in the order of the file. */
export interface NetrcMatch {
  /** What curl sends. */
  readonly used: NetrcEntry | undefined;
  /** Entries of the same host that it never gets to and that say something else. */
  readonly hidden: readonly NetrcEntry[];
  /** Entries that name the host with a port, which match nothing. */
  readonly withPort: readonly NetrcEntry[];
}

/**
 * Picks what curl picks: the first entry of the host, whatever the port, or the `default` entry when it
 * comes before.
 */
export function matchNetrc(entries: readonly NetrcEntry[], host: string): NetrcMatch {
  const wanted = host.toLowerCase();
  const matching = entries.filter(
    (entry) => entry.host === undefined || entry.host.toLowerCase() === wanted,
  );
  const [used] = matching;
  return {
    used,
    hidden: matching
      .slice(1)
      .filter((entry) => entry.host !== undefined && entry.password !== used?.password),
    withPort: entries.filter((entry) => {
      const [, name] = /^(.+):\d+$/.exec(entry.host ?? "") ?? [];
      return name !== undefined && name.replace(/^\[(.*)\]$/, "$1").toLowerCase() === wanted;
    }),
  };
}
