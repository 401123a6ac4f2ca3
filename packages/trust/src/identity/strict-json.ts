/** A JSON text names a key twice in one object: two readers may understand it differently. */
export class DuplicateKeyError extends Error {
  override readonly name = "DuplicateKeyError";
}

/**
 * Parses JSON and refuses an object that names a key twice, where `JSON.parse` keeps the last.
 *
 * @throws {SyntaxError} when the text is no JSON.
 * @throws {DuplicateKeyError} naming nothing of the text.
 */
export function parseStrictJson(text: string): unknown {
  const value: unknown = JSON.parse(text);
  requireUniqueKeys(text);
  return value;
}

// The text is known to be JSON, so strings, braces and colons are all that has to be told apart.
function requireUniqueKeys(text: string): void {
  const keysOfOpenObjects: Array<Set<string>> = [];
  const token = /"(?:[^"\\]|\\.)*"(\s*:)?|[{}]/g;
  for (const [found, colon] of text.matchAll(token)) {
    if (found === "{") keysOfOpenObjects.push(new Set());
    else if (found === "}") keysOfOpenObjects.pop();
    else if (colon !== undefined) {
      const key = String(JSON.parse(found.slice(0, -colon.length)));
      const keys = keysOfOpenObjects.at(-1);
      if (keys?.has(key) === true) throw new DuplicateKeyError("A key stands there twice");
      keys?.add(key);
    }
  }
}
