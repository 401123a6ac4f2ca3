/**
 * Tells whether a full ref fits a pattern: `*` stands for any characters but a slash, `**` for any, also
 * none; everything else for itself. Takes at most `pattern.length * ref.length` steps.
 */
export function matchesRefPattern(pattern: string, ref: string): boolean {
  // reached[i]: the pattern so far covers the first i characters of the ref.
  let reached = new Uint8Array(ref.length + 1);
  reached[0] = 1;
  for (let at = 0; at < pattern.length; at += 1) {
    const next = new Uint8Array(ref.length + 1);
    if (pattern[at] === "*") {
      const isWide = pattern[at + 1] === "*";
      if (isWide) at += 1;
      for (let end = 0; end <= ref.length; end += 1) {
        const grows = end > 0 && next[end - 1] === 1 && (isWide || ref[end - 1] !== "/");
        next[end] = reached[end] === 1 || grows ? 1 : 0;
      }
    } else {
      for (let end = 1; end <= ref.length; end += 1) {
        next[end] = reached[end - 1] === 1 && ref[end - 1] === pattern[at] ? 1 : 0;
      }
    }
    reached = next;
  }
  return reached[ref.length] === 1;
}
