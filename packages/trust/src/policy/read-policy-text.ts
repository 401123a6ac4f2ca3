import { isScalar, parseDocument } from "yaml";

import { formatPlace, type PolicyProblem } from "./policy-problem.ts";

/** A policy's text as plain values, or why it is none. */
export type PolicyText =
  | { readonly kind: "read"; readonly value: unknown }
  | { readonly kind: "unreadable"; readonly problems: readonly PolicyProblem[] };

// In characters. A policy of ten thousand repositories is below it.
const MAX_POLICY_LENGTH = 4 * 2 ** 20;
// Objects in JavaScript know these by themselves, so as names they would get lost.
const LOST_KEYS: ReadonlySet<string> = new Set(["__proto__", "constructor", "prototype"]);

/** Reads YAML, and JSON as a part of it; a key that stands twice in one place is refused. */
export function readPolicyText(text: string): PolicyText {
  if (text.length > MAX_POLICY_LENGTH) {
    return unreadable({
      place: "",
      message: `The policy is longer than ${MAX_POLICY_LENGTH} characters`,
      hint: "Write rules for organizations or groups instead of single repositories.",
    });
  }
  const document = parseDocument(text, {
    // As text, because 1 and "1" become the same key.
    uniqueKeys: (a, b) => isScalar(a) && isScalar(b) && String(a.value) === String(b.value),
    logLevel: "silent",
  });
  const faults = [...document.errors, ...document.warnings];
  if (faults.length > 0) {
    return unreadable(
      ...faults.map(({ message, linePos }) => ({
        place: linePos === undefined ? "" : `line ${linePos[0].line}, column ${linePos[0].col}`,
        message: (message.split("\n")[0] ?? "").replace(/ at line \d+, column \d+:?$/, ""),
        hint: "Write YAML 1.2, or JSON, with every key once.",
      })),
    );
  }
  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: 100 });
  } catch {
    return unreadable({
      place: "",
      message: "The policy repeats itself through aliases too often",
      hint: "Write out what the aliases stand for.",
    });
  }
  const lost = [...findLostKeys(value, [])];
  return lost.length > 0 ? unreadable(...lost) : { kind: "read", value };
}

function* findLostKeys(
  value: unknown,
  path: readonly (string | number)[],
): Iterable<PolicyProblem> {
  if (typeof value !== "object" || value === null) return;
  for (const [key, child] of Object.entries(value)) {
    const here = [...path, Array.isArray(value) ? Number(key) : key];
    if (!Array.isArray(value) && LOST_KEYS.has(key)) {
      yield {
        place: formatPlace(here),
        message: `${key} cannot be a name`,
        hint: "Choose another.",
      };
    }
    yield* findLostKeys(child, here);
  }
}

function unreadable(...problems: readonly PolicyProblem[]): PolicyText {
  return { kind: "unreadable", problems };
}
