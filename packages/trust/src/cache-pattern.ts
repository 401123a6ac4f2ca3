const CACHE_NAME = /^[A-Za-z0-9][A-Za-z0-9\-_+]{0,49}$/;
const CACHE_PATTERN = /^[A-Za-z0-9*][A-Za-z0-9\-_+*]{0,49}$/;

/** Tells whether Attic and its clients accept `text` as a cache name. */
export function isAtticCacheName(text: string): boolean {
  return CACHE_NAME.test(text);
}

/** Tells whether Attic accepts `text` as a pattern in a token: a cache name that may hold `*`. */
export function isCachePattern(text: string): boolean {
  return CACHE_PATTERN.test(text);
}

/**
 * Tells whether `pattern` covers all of `name`; `*` stands for any number of characters, also none.
 *
 * Takes at most `pattern.length * name.length` steps, whatever a stranger writes into a token: each
 * `*` is retried from its last position only, because an earlier one can never do better.
 */
export function matchesCachePattern(pattern: string, name: string): boolean {
  let atPattern = 0;
  let atName = 0;
  let star = -1;
  let starName = 0;
  while (atName < name.length) {
    if (pattern[atPattern] === "*") {
      star = atPattern;
      starName = atName;
      atPattern += 1;
    } else if (pattern[atPattern] === name[atName]) {
      atPattern += 1;
      atName += 1;
    } else if (star !== -1) {
      starName += 1;
      atName = starName;
      atPattern = star + 1;
    } else {
      return false;
    }
  }
  while (pattern[atPattern] === "*") atPattern += 1;
  return atPattern === pattern.length;
}
