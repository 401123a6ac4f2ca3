import { CacheError } from "@glorious/core";

/** Which short-lived layer over a view: of a pull request by its number, or of any other ref. */
export type Overlay =
  | { readonly kind: "pr"; readonly number: number }
  | { readonly kind: "ref"; /** 8 lowercase hexadecimal digits. */ readonly hash: string };

/** A view's full name in its parts. */
export interface ViewName {
  /** `undefined` for the default tenant. */
  readonly tenant: string | undefined;
  readonly view: string;
  /** Present when the name is that of an overlay over the view. */
  readonly overlay?: Overlay | undefined;
}

// The names that HTTP routes and the Remote Execution API keep for themselves.
const RESERVED_WORDS: ReadonlySet<string> = new Set([
  "ac",
  "cas",
  "kv",
  "healthz",
  "readyz",
  "metrics",
  "blobs",
  "uploads",
  "actions",
  "actionResults",
  "operations",
  "capabilities",
  "compressed-blobs",
]);
const WORD = /^[a-z0-9][a-z0-9-]*$/;
const OVERLAY = /^(?:pr-([1-9][0-9]{0,8})|ref-([0-9a-f]{8}))$/;
const MAX_TENANT_LENGTH = 24;
const MAX_VIEW_LENGTH = 12;

/** The largest number of a pull request that an overlay's name holds. */
export const MAX_PULL_REQUEST_NUMBER = 999_999_999;

/**
 * Takes a view's full name apart: `<tenant>+<view>`, or just `<view>` for the default tenant; an
 * overlay's name goes on with `_pr-<number>` or `_ref-<8 hexadecimal digits>`.
 *
 * Tenant (at most 24 characters) and view (at most 12) are lowercase letters, digits and hyphens and
 * start with a letter or digit. Every such name is a valid Attic cache name, and no two names mean
 * the same view.
 *
 * @throws {CacheError} `INVALID` saying which part is wrong.
 */
export function parseViewName(fullName: string): ViewName {
  const underscore = fullName.indexOf("_");
  const base = underscore === -1 ? fullName : fullName.slice(0, underscore);
  const plus = base.indexOf("+");
  const tenant = plus === -1 ? undefined : base.slice(0, plus);
  const view = base.slice(plus + 1);
  if (tenant !== undefined) requireWord(fullName, "tenant", tenant, MAX_TENANT_LENGTH);
  requireWord(fullName, "view", view, MAX_VIEW_LENGTH);
  if (RESERVED_WORDS.has(view)) {
    throw new CacheError("INVALID", `${JSON.stringify(view)} is a reserved word and no view name`, {
      hint: "Choose another name, such as main.",
    });
  }
  if (underscore === -1) return { tenant, view };
  return { tenant, view, overlay: requireOverlay(fullName, fullName.slice(underscore + 1)) };
}

/** The full name that {@link parseViewName} takes apart. */
export function formatViewName(name: ViewName): string {
  const base = name.tenant === undefined ? name.view : `${name.tenant}+${name.view}`;
  if (name.overlay === undefined) return base;
  const { overlay } = name;
  return `${base}_${overlay.kind === "pr" ? `pr-${overlay.number}` : `ref-${overlay.hash}`}`;
}

function requireOverlay(fullName: string, text: string): Overlay {
  const [, number, hash] = OVERLAY.exec(text) ?? [];
  if (number !== undefined) return { kind: "pr", number: Number(number) };
  if (hash !== undefined) return { kind: "ref", hash };
  throw new CacheError(
    "INVALID",
    `${JSON.stringify(fullName.slice(0, 100))} is no view name: its overlay part is malformed`,
    { hint: "An overlay ends in _pr-<number> or _ref-<8 hexadecimal digits>." },
  );
}

function requireWord(fullName: string, part: string, word: string, maxLength: number): void {
  if (word.length <= maxLength && WORD.test(word)) return;
  throw new CacheError(
    "INVALID",
    `${JSON.stringify(fullName.slice(0, 100))} is no view name: its ${part} part is malformed`,
    {
      hint: `A ${part} is 1 to ${maxLength} lowercase letters, digits and hyphens, not starting with a hyphen.`,
    },
  );
}
