import { CacheError } from "@glorious/core";

/** The two halves of a blob's key. */
export interface BlobKey {
  readonly namespace: string;
  readonly name: string;
}

const SEGMENT = /^[a-z0-9][a-z0-9-]*$/;
const MAX_NAMESPACE_LENGTH = 32;
const MAX_NAME_LENGTH = 200;

/**
 * Tells whether `key` can name a blob: `<namespace>/<name>`, both of lowercase letters, digits and
 * hyphens, starting with a letter or digit, at most 32 and 200 characters long.
 *
 * Such a key is the same on file systems that ignore case, holds no traversal, and needs no escape
 * in a URL.
 */
export function isBlobKey(key: string): boolean {
  return splitBlobKey(key) !== undefined;
}

/** @throws {CacheError} `INVALID` when {@link isBlobKey} refuses the key. */
export function parseBlobKey(key: string): BlobKey {
  const parts = splitBlobKey(key);
  if (parts === undefined) throw invalidKey(key, "key");
  return parts;
}

/**
 * Parses the start of a key, as `list` takes it: empty, a part of a namespace, or a whole namespace,
 * a slash and a part of a name, which may be empty.
 *
 * @throws {CacheError} `INVALID` when no key can start so.
 */
export function parseBlobKeyPrefix(prefix: string): BlobKey & { readonly hasSlash: boolean } {
  const slash = prefix.indexOf("/");
  const namespace = slash === -1 ? prefix : prefix.slice(0, slash);
  const name = slash === -1 ? "" : prefix.slice(slash + 1);
  const isValid =
    (isSegment(namespace, MAX_NAMESPACE_LENGTH) || prefix === "") &&
    (name === "" || isSegment(name, MAX_NAME_LENGTH));
  if (!isValid) throw invalidKey(prefix, "key prefix");
  return { namespace, name, hasSlash: slash !== -1 };
}

function splitBlobKey(key: string): BlobKey | undefined {
  const slash = key.indexOf("/");
  const namespace = key.slice(0, Math.max(slash, 0));
  const name = key.slice(slash + 1);
  const isValid = isSegment(namespace, MAX_NAMESPACE_LENGTH) && isSegment(name, MAX_NAME_LENGTH);
  return isValid ? { namespace, name } : undefined;
}

function isSegment(text: string, maxLength: number): boolean {
  return text.length <= maxLength && SEGMENT.test(text);
}

function invalidKey(text: string, what: string): CacheError {
  return new CacheError("INVALID", `${JSON.stringify(text.slice(0, 300))} is not a blob ${what}`, {
    hint: "Write <namespace>/<name> in lowercase letters, digits and hyphens.",
  });
}
