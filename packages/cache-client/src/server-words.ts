import * as v from "valibot";

/** A server's words on one line, without control characters that a terminal, a log or a file would obey. */
export function printable(text: string): string {
  // eslint-disable-next-line no-control-regex
  const line = text.replaceAll(/[\u0000-\u001F\u007F-\u009F\u2028\u2029]+/g, " ");
  return line.length > 500 ? `${line.slice(0, 500)}…` : line;
}

/**
 * A name, a key or an address of a server's answer. It goes into files of settings, one to a line, where a character
 * that ends the line, or the word, would make the rest of it a setting.
 */
export const Word: v.GenericSchema<string> = v.pipe(v.string(), v.regex(/^[\x21-\x7E]+$/));

/** What a server says to people. */
export const Sentence: v.GenericSchema<string> = v.pipe(v.string(), v.transform(printable));
