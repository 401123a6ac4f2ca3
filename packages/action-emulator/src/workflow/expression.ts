import { CacheError } from "@glorious/core";

import { tokenize, type Token } from "./expression-tokens.ts";

/** What became of a job so far, or of a step. */
export type Conclusion = "success" | "failure" | "cancelled";

/** What an expression may ask for. */
export interface ExpressionContext {
  /** `github`, `env`, `steps`, `runner`, `job`, `secrets`, `inputs`: values by name. */
  readonly values: Readonly<Record<string, unknown>>;
  /** What `success()`, `failure()` and `cancelled()` look at. */
  readonly status: Conclusion;
}

const STATUS_FUNCTIONS = /\b(success|failure|always|cancelled)\s*\(/i;

/**
 * Evaluates an expression of the documented subset: literals, names with `.` and `[…]`, `!`, `==`, `!=`, `&&`, `||`,
 * parentheses, and `success`, `failure`, `always`, `cancelled`, `contains`, `startsWith`, `endsWith`, `format`.
 *
 * @throws {CacheError} `UNSUPPORTED` for anything else, so that a workflow never runs with a meaning that is not its own.
 */
export function evaluateExpression(text: string, context: ExpressionContext): unknown {
  return createEvaluator(text, tokenize(text), context)();
}

/** Evaluates an `if:`; without a status function it also asks for `success()`. */
export function evaluateCondition(text: string, context: ExpressionContext): boolean {
  const inner = /^\s*\$\{\{(.*)\}\}\s*$/s.exec(text)?.[1] ?? text;
  if (inner.trim() === "") return context.status === "success";
  if (!STATUS_FUNCTIONS.test(inner) && context.status !== "success") return false;
  return isTruthy(evaluateExpression(inner, context));
}

/** Replaces each `${{ … }}` of a text by what it evaluates to. */
export function interpolate(text: string, context: ExpressionContext): string {
  return text.replaceAll(/\$\{\{(.*?)\}\}/gs, (_, inner: string) =>
    toText(evaluateExpression(inner, context)),
  );
}

function createEvaluator(
  text: string,
  tokens: readonly Token[],
  context: ExpressionContext,
): () => unknown {
  let position = 0;
  const peek = (): Token | undefined => tokens[position];
  const takeIf = (symbol: string): boolean => {
    const token = peek();
    if (token?.kind !== "symbol" || token.text !== symbol) return false;
    position += 1;
    return true;
  };
  const fail = (): never => {
    throw new CacheError(
      "UNSUPPORTED",
      `The expression ${JSON.stringify(text.trim())} is not understood`,
      {
        hint: "The emulator's README lists what expressions may use.",
      },
    );
  };
  const take = (symbol: string): void => {
    if (!takeIf(symbol)) fail();
  };

  const parseOr = (): unknown => {
    let left = parseAnd();
    while (takeIf("||")) {
      const right = parseAnd();
      left = isTruthy(left) ? left : right;
    }
    return left;
  };
  const parseAnd = (): unknown => {
    let left = parseEquality();
    while (takeIf("&&")) {
      const right = parseEquality();
      left = isTruthy(left) ? right : left;
    }
    return left;
  };
  const parseEquality = (): unknown => {
    let left = parseUnary();
    for (;;) {
      if (takeIf("==")) left = isEqual(left, parseUnary());
      else if (takeIf("!=")) left = !isEqual(left, parseUnary());
      else return left;
    }
  };
  const parseUnary = (): unknown => (takeIf("!") ? !isTruthy(parseUnary()) : parsePostfix());
  const parsePostfix = (): unknown => {
    let value = parsePrimary();
    for (;;) {
      if (takeIf(".")) {
        const name = peek();
        if (name?.kind !== "name") return fail();
        position += 1;
        value = member(value, name.text);
      } else if (takeIf("[")) {
        const name = toText(parseOr());
        take("]");
        value = member(value, name);
      } else {
        return value;
      }
    }
  };
  const parsePrimary = (): unknown => {
    const token = peek();
    if (token === undefined) return fail();
    position += 1;
    if (token.kind === "literal") return token.value;
    if (token.kind === "symbol") {
      if (token.text !== "(") return fail();
      const value = parseOr();
      take(")");
      return value;
    }
    if (takeIf("(")) return call(token.text, parseArguments(), context.status) ?? fail();
    if (!Object.hasOwn(context.values, token.text)) return fail();
    return context.values[token.text];
  };
  const parseArguments = (): unknown[] => {
    const values: unknown[] = [];
    if (takeIf(")")) return values;
    do values.push(parseOr());
    while (takeIf(","));
    take(")");
    return values;
  };
  return () => {
    const value = parseOr();
    return position === tokens.length ? value : fail();
  };
}

function call(
  name: string,
  args: readonly unknown[],
  status: Conclusion,
): string | boolean | undefined {
  const [first, second] = [toText(args[0]).toLowerCase(), toText(args[1]).toLowerCase()];
  switch (name.toLowerCase()) {
    case "success":
      return status === "success";
    case "failure":
      return status === "failure";
    case "cancelled":
      return status === "cancelled";
    case "always":
      return true;
    case "contains":
      return Array.isArray(args[0])
        ? args[0].some((item) => isEqual(item, args[1]))
        : first.includes(second);
    case "startswith":
      return first.startsWith(second);
    case "endswith":
      return first.endsWith(second);
    case "format":
      return toText(args[0]).replaceAll(/\{(\d+)\}/g, (_, index: string) =>
        toText(args[Number(index) + 1]),
      );
    default:
      return undefined;
  }
}

/** A member that is not there is empty, not an error. */
function member(value: unknown, name: string): unknown {
  if (typeof value !== "object" || value === null) return undefined;
  return Object.hasOwn(value, name) ? (value as Record<string, unknown>)[name] : undefined;
}

function isTruthy(value: unknown): boolean {
  return value !== undefined && value !== null && value !== false && value !== "" && value !== 0;
}

/** Texts are compared without regard to case; other types as numbers. */
function isEqual(left: unknown, right: unknown): boolean {
  if (typeof left === "string" && typeof right === "string") {
    return left.toLowerCase() === right.toLowerCase();
  }
  return toNumber(left) === toNumber(right);
}

function toNumber(value: unknown): number {
  if (value === undefined || value === null || value === "") return 0;
  return typeof value === "object" ? Number.NaN : Number(value);
}

function toText(value: unknown): string {
  if (value === undefined || value === null) return "";
  return typeof value === "string" ? value : JSON.stringify(value);
}
