/**
 * The address of a substituter without what makes no difference to where it leads: parameters such as
 * `?priority=10`, a trailing slash, a port that is the default, and credentials, which stay unsaid.
 */
export function normalizeSubstituter(text: string): string {
  const url = URL.parse(text);
  if (url === null) return text.replace(/\?.*$/, "").replace(/\/+$/, "");
  url.search = "";
  url.hash = "";
  url.username = "";
  url.password = "";
  return url.href.replace(/\/+$/, "");
}

/** Whether two addresses are one substituter. */
export function isSameSubstituter(left: string, right: string): boolean {
  return normalizeSubstituter(left) === normalizeSubstituter(right);
}

/** The `?priority=` that overrules what the cache says of itself. */
export function ownPriority(text: string): number | undefined {
  const value = URL.parse(text)?.searchParams.get("priority") ?? "";
  return /^\d{1,9}$/.test(value) ? Number(value) : undefined;
}
