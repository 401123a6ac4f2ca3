import { CacheError } from "@glorious/core";

/** A piece of an expression. */
export type Token =
  | { readonly kind: "literal"; readonly value: string | number | boolean | undefined }
  | { readonly kind: "name"; readonly text: string }
  | { readonly kind: "symbol"; readonly text: string };

const PATTERN =
  /\s*(?:(?<string>'(?:[^']|'')*')|(?<number>-?\d+(?:\.\d+)?)|(?<name>[A-Za-z_][\w-]*)|(?<symbol>\|\||&&|==|!=|[!()[\].,]))/y;

/** Cuts an expression into pieces. @throws {CacheError} `UNSUPPORTED` at the first that is of no known kind. */
export function tokenize(text: string): Token[] {
  const tokens: Token[] = [];
  const source = text.trimEnd();
  PATTERN.lastIndex = 0;
  while (PATTERN.lastIndex < source.length) {
    const at = PATTERN.lastIndex;
    const groups = PATTERN.exec(source)?.groups;
    if (groups === undefined) {
      PATTERN.lastIndex = 0;
      throw new CacheError(
        "UNSUPPORTED",
        `The expression ${JSON.stringify(text.trim())} is not understood at ${JSON.stringify(source.slice(at))}`,
      );
    }
    tokens.push(toToken(groups));
  }
  return tokens;
}

function toToken(groups: Readonly<Record<string, string | undefined>>): Token {
  const { string, number, name, symbol = "" } = groups;
  if (string !== undefined) {
    return { kind: "literal", value: string.slice(1, -1).replaceAll("''", "'") };
  }
  if (number !== undefined) return { kind: "literal", value: Number(number) };
  if (name === undefined) return { kind: "symbol", text: symbol };
  if (name === "true" || name === "false") return { kind: "literal", value: name === "true" };
  return name === "null" ? { kind: "literal", value: undefined } : { kind: "name", text: name };
}
