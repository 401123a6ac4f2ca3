import { CacheError } from "@glorious/core";

/** A version as semver.org has it, without build metadata. */
export interface ReleaseVersion {
  readonly text: string;
  readonly major: number;
  readonly minor: number;
  readonly patch: number;
  /** What follows the hyphen, such as `rc.1`; `undefined` for a version that everybody shall get. */
  readonly prerelease: string | undefined;
}

const NUMBER = "(?:0|[1-9][0-9]{0,8})";
const VERSION = new RegExp(
  `^(${NUMBER})\\.(${NUMBER})\\.(${NUMBER})(?:-([0-9A-Za-z-]+(?:\\.[0-9A-Za-z-]+)*))?$`,
);

/**
 * Parses `1.2.3` or `1.2.3-rc.1`.
 *
 * @throws {CacheError} `INVALID` for everything else, a `v` in front included.
 */
export function parseReleaseVersion(text: string): ReleaseVersion {
  const match = VERSION.exec(text);
  if (match === null) {
    throw new CacheError("INVALID", `"${text}" is no version`, {
      hint: "Write it as 1.2.3 or 1.2.3-rc.1, without a v",
    });
  }
  const [, major, minor, patch, prerelease] = match;
  return { text, major: Number(major), minor: Number(minor), patch: Number(patch), prerelease };
}

/**
 * Whether the floating tag of a major version moves to this release: it is for everybody, and no newer one of its
 * major is there.
 *
 * @param existing names of the tags that exist, with or without `v`; others than versions do not count
 */
export function movesFloatingTag(release: ReleaseVersion, existing: readonly string[]): boolean {
  if (release.prerelease !== undefined) return false;
  return !existing.some((tag) => {
    const match = VERSION.exec(tag.replace(/^v/, ""));
    if (match === null || match[4] !== undefined || Number(match[1]) !== release.major)
      return false;
    const [minor, patch] = [Number(match[2]), Number(match[3])];
    return minor > release.minor || (minor === release.minor && patch > release.patch);
  });
}
