import type { ReleaseVersion } from "./release-version.ts";

/**
 * A README whose examples name the major that this release is of: `glorious/setup-attic@v1` of the sources would not be
 * there while the newest is 0.9.0, and another one once it is 2.0.0.
 */
export function rewriteVersions(markdown: string, { major }: ReleaseVersion): string {
  return markdown.replaceAll(/(\bglorious\/[\w/-]+@v?)\d+(?![\w.-])/g, `$1${major}`);
}
