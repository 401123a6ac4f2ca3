/**
 * A word as an rc file of Bazel's gives it back: there, words end at blanks and a line that imports two words ends every
 * command. It must not hold a line break, which no quote keeps.
 */
export function quoteRcWord(word: string): string {
  return /[\s"'\\#]/.test(word) ? `"${word.replaceAll(/["\\]/g, String.raw`\$&`)}"` : word;
}

/** The line of an rc file that brings in another one, if that is there; one character a byte, as users' files are read. */
export function formatRcImport(path: string): string {
  return `try-import ${Buffer.from(quoteRcWord(path), "utf8").toString("latin1")}`;
}

/** The file that a line of {@link formatRcImport} brings in; `undefined` when it is none. */
export function parseRcImport(line: string): string | undefined {
  const [, quoted, bare] = /^try-import (?:"(.*)"|(.*))$/.exec(line) ?? [];
  const word = quoted?.replaceAll(/\\(.)/g, "$1") ?? bare;
  return word === undefined ? undefined : Buffer.from(word, "latin1").toString("utf8");
}
