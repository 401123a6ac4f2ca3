/** How many client signatures a path keeps. */
const MAX_CLIENT_SIGNATURES = 16;

/**
 * The signatures a path has once `added` join those it `kept`: each once, sorted, at most
 * {@link MAX_CLIENT_SIGNATURES}. When there are more, those it has stay and the first added in sort order
 * fill up, so that nobody can push a signature out.
 *
 * `CacheIndex.commitPaths` merges in this way; who renders a narinfo for a path that is there already does
 * the same with what `findPath` answers, so that the text shows what the record says.
 */
export function mergeClientSignatures(kept: readonly string[], added: readonly string[]): string[] {
  const fresh = [...new Set(added)].filter((signature) => !kept.includes(signature)).sort();
  return [...new Set(kept), ...fresh].slice(0, MAX_CLIENT_SIGNATURES).sort();
}
