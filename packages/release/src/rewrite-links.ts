import { posix } from "node:path";

import { CacheError } from "@glorious/core";

/** Where a page lies in the sources, and where readers find the sources. */
export interface LinkOptions {
  /** Its path from the top, such as `actions/setup-attic/README.md`. */
  readonly page: string;
  /** Address of the sources' repository, such as `https://github.com/glorious/flywheel`. */
  readonly source: string;
  /** A tag or commit of it that stays. */
  readonly ref: string;
  /** What a path of the sources is there; `undefined` when there is nothing. */
  readonly kindOf: (path: string) => "file" | "folder" | undefined;
  /** Tells a path that comes along with the page, so that the link stays as it is. */
  readonly comesAlong: (path: string) => boolean;
}

/**
 * A page in Markdown whose relative links lead into the sources' repository, for a reader who has the page alone.
 *
 * @throws {CacheError} `NOT_FOUND` for a link to what the sources do not have.
 */
export function rewriteLinks(markdown: string, options: LinkOptions): string {
  return markdown.replaceAll(/\]\(([^)\s]+)\)/g, (link, target: string) => {
    if (/^(?:[a-z][a-z0-9+.-]*:|#|\/)/i.test(target)) return link;
    const [file = "", fragment] = target.split("#", 2);
    const path = posix.normalize(posix.join(posix.dirname(options.page), file)).replace(/\/$/, "");
    if (options.comesAlong(path)) return link;
    const kind = options.kindOf(path);
    if (kind === undefined) {
      throw new CacheError("NOT_FOUND", `${options.page} links to ${target}, which is not there`);
    }
    const view = kind === "file" ? "blob" : "tree";
    const suffix = fragment === undefined ? "" : `#${fragment}`;
    return `](${options.source}/${view}/${options.ref}/${path}${suffix})`;
  });
}
