/** A claim is missing or malformed. The message names the claim and never its value. */
export class ClaimError extends Error {
  override readonly name = "ClaimError";
}

/** Reads single claims; every value is checked, because a workflow's author chooses some of them. */
export interface ClaimsReader {
  /** A text; `undefined` when the claim is absent, `null` or empty. */
  text(claim: string): string | undefined;
  requireText(claim: string): string;
  /** A positive whole number, as text or number, in its decimal form. */
  id(claim: string): string | undefined;
  requireId(claim: string): string;
  /** `true` or `false`, also as text. */
  flag(claim: string): boolean | undefined;
  /** The claims inside an object. */
  object(claim: string): ClaimsReader | undefined;
}

const MAX_TEXT_LENGTH = 1024;
// oxlint-disable-next-line no-control-regex -- finding them is what it is for
const CONTROL_CHARACTER = /[\u0000-\u001f\u007f\u2028\u2029]/;
const ID = /^[1-9][0-9]{0,18}$/;

/** Reads `claims`; `prefix` names the object around them in messages. */
export function createClaimsReader(
  claims: Readonly<Record<string, unknown>>,
  prefix = "",
): ClaimsReader {
  const get = (claim: string): unknown =>
    Object.hasOwn(claims, claim) ? claims[claim] : undefined;
  const fail = (claim: string, problem: string): ClaimError =>
    new ClaimError(`The claim ${JSON.stringify(`${prefix}${claim}`)} ${problem}`);
  const required = <T>(claim: string, value: T | undefined): T => {
    if (value === undefined) throw fail(claim, "is missing");
    return value;
  };

  const reader: ClaimsReader = {
    text(claim) {
      const value = get(claim);
      if (value === undefined || value === null || value === "") return undefined;
      if (typeof value !== "string") throw fail(claim, "is no text");
      if (value.length > MAX_TEXT_LENGTH) throw fail(claim, "is too long");
      if (CONTROL_CHARACTER.test(value)) throw fail(claim, "holds a control character");
      return value;
    },
    requireText: (claim) => required(claim, reader.text(claim)),
    id(claim) {
      const value = get(claim);
      if (value === undefined || value === null || value === "") return undefined;
      const text = typeof value === "number" && Number.isSafeInteger(value) ? `${value}` : value;
      if (typeof text !== "string" || !ID.test(text))
        throw fail(claim, "is no positive whole number");
      return text;
    },
    requireId: (claim) => required(claim, reader.id(claim)),
    flag(claim) {
      const value = get(claim);
      if (value === undefined || value === null || value === "") return undefined;
      if (value === true || value === "true") return true;
      if (value === false || value === "false") return false;
      throw fail(claim, "is neither true nor false");
    },
    object(claim) {
      const value = get(claim);
      if (value === undefined || value === null) return undefined;
      if (typeof value !== "object" || Array.isArray(value)) throw fail(claim, "is no object");
      return createClaimsReader(value as Record<string, unknown>, `${prefix}${claim}.`);
    },
  };
  return reader;
}
