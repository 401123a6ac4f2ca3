import { createHash } from "node:crypto";

/** What is known of an identity token that came before. */
export interface Sighting {
  readonly firstSeenAtMs: number;
  /** Where it came from first. */
  readonly address: string;
  /** How often it has come, this time included. */
  readonly count: number;
}

/** Remembers which identity tokens came from where, until they expire. */
export interface Sightings {
  /** Notes a verified token; its first sighting, with how often it has come by now. */
  note(token: string, at: { readonly address: string; readonly expiresAtMs: number }): Sighting;
}

/** Tokens that are remembered; beyond that the one that came first is forgotten. */
const MAX_REMEMBERED = 20_000;

/** The token itself is not kept, only its hash. */
export function createSightings(now: () => number): Sightings {
  const seen = new Map<string, Sighting & { readonly expiresAtMs: number }>();

  const forgetExpired = (): void => {
    const nowMs = now();
    for (const [key, { expiresAtMs }] of seen) {
      if (expiresAtMs >= nowMs && seen.size <= MAX_REMEMBERED) return;
      seen.delete(key);
    }
  };

  return {
    note(token, { address, expiresAtMs }) {
      const key = createHash("sha256").update(token).digest("base64url");
      const before = seen.get(key);
      const sighting = before ?? { firstSeenAtMs: now(), address, count: 0, expiresAtMs };
      const noted = { ...sighting, count: sighting.count + 1 };
      seen.set(key, noted);
      forgetExpired();
      return noted;
    },
  };
}
