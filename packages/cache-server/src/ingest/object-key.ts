/** Where objects lie in the store. */
export const OBJECT_KEY_PREFIX = "nar/";

/** The blob's name of an object. */
export function objectKey(fileHash: string): string {
  return `${OBJECT_KEY_PREFIX}${fileHash}`;
}
