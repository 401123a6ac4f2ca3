import { isStorePathHash } from "@glorious/nix-store";

/** What may be part of a file's name in a listing; everything else is what stands around it. */
const AROUND = /[^0-9A-Za-z._+?=-]+/;
/** No name of a store path is longer. */
const MAX_NAME_CHARS = 300;

/** Which words of a text stand for a store path. */
export type NamePattern =
  /** `<hash>.narinfo`, as a directory listing has them. */
  | "narinfos"
  /** These, and `<hash>` alone and `<hash>-<name>`, as lists of paths have them. */
  | "paths";

/**
 * The store path hashes that a text names, in any format that writes file names as they are: lines, HTML, JSON, XML.
 * Memory is one piece of the text.
 */
export async function* findNames(
  pieces: AsyncIterable<Uint8Array>,
  pattern: NamePattern,
): AsyncGenerator<string, void, undefined> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const piece of pieces) {
    const words = (rest + decoder.decode(piece, { stream: true })).split(AROUND);
    rest = words.pop() ?? "";
    if (rest.length > MAX_NAME_CHARS) rest = rest.slice(0, MAX_NAME_CHARS);
    yield* hashesOf(words, pattern);
  }
  yield* hashesOf([rest], pattern);
}

/** The same of a text that is there as a whole. */
export function* hashesOf(words: readonly string[], pattern: NamePattern): Generator<string> {
  for (const word of words) {
    const hash = word.slice(0, 32);
    const behind = word.slice(32);
    const isMeant =
      behind === ".narinfo" || (pattern === "paths" && (behind === "" || behind.startsWith("-")));
    if (isMeant && isStorePathHash(hash)) yield hash;
  }
}
