import { CacheError } from "@glorious/core";

/** A view's full name in its parts. */
export interface ViewName {
  /** `undefined` for the default tenant. */
  readonly tenant: string | undefined;
  readonly view: string;
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
const MAX_TENANT_LENGTH = 24;
const MAX_VIEW_LENGTH = 12;

/**
 * Takes a view's full name apart: `<tenant>+<view>`, or just `<view>` for the default tenant.
 *
 * Tenant (at most 24 characters) and view (at most 12) are lowercase letters, digits and hyphens and
 * start with a letter or digit. Every such name is a valid Attic cache name.
 *
 * @throws {CacheError} `INVALID` saying which part is wrong.
 */
export function parseViewName(fullName: string): ViewName {
  const plus = fullName.indexOf("+");
  const tenant = plus === -1 ? undefined : fullName.slice(0, plus);
  const view = fullName.slice(plus + 1);
  if (tenant !== undefined) requireWord(fullName, "tenant", tenant, MAX_TENANT_LENGTH);
  requireWord(fullName, "view", view, MAX_VIEW_LENGTH);
  if (RESERVED_WORDS.has(view)) {
    throw new CacheError("INVALID", `${JSON.stringify(view)} is a reserved word and no view name`, {
      hint: "Choose another name, such as main.",
    });
  }
  return { tenant, view };
}

/** The full name that {@link parseViewName} takes apart. */
export function formatViewName(name: ViewName): string {
  return name.tenant === undefined ? name.view : `${name.tenant}+${name.view}`;
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
