import type { CacheError } from "@glorious/core";
import type { GrantRefusal } from "@glorious/trust";

import { ReasonedError } from "../http/reasoned-error.ts";
import type { RefusedIdentity } from "./identity-verifier.ts";

/** What the holder of a token may learn: what is wrong with the token itself, which they can read as well. */
const TOLD: Readonly<Partial<Record<RefusedIdentity["code"], readonly [string, string]>>> = {
  malformed: ["The identity token is no JSON Web Token", "Send the token as the forge gave it."],
  "too-large": ["The identity token is too long", "Send the token as the forge gave it."],
  "duplicate-key": [
    "The identity token names a field twice",
    "Send the token as the forge gave it.",
  ],
  "wrong-audience": [
    "The identity token is meant for another service",
    "Ask the forge for one with the audience that /_flywheel/v1/discover names, and no other.",
  ],
  "no-expiry": ["The identity token does not say when it expires", "Ask the forge for another."],
  "too-long-lived": [
    "The identity token is valid for longer than is accepted here",
    "Ask for one with a shorter life.",
  ],
  expired: [
    "The identity token has expired",
    "Ask the forge for a new one; `flywheel exchange` does.",
  ],
  "not-yet-valid": [
    "The identity token is not valid yet",
    "Compare the clocks of the forge and the server.",
  ],
  "bad-claims": [
    "The identity token lacks a claim that is needed",
    "Use a forge version whose tokens carry numeric ids.",
  ],
};

/**
 * What the client is told of a refused identity. Whatever would tell which issuers this server knows has one answer.
 */
export function identityRefusal(refused: RefusedIdentity): CacheError {
  const told = TOLD[refused.code];
  if (told === undefined) {
    return new ReasonedError("UNAUTHENTICATED", "The identity token is not accepted here", {
      reason: "not-accepted",
      hint: "The server's operator finds the reason in its log, by the request id.",
    });
  }
  const [message, hint] = told;
  return new ReasonedError("UNAUTHENTICATED", message, { reason: refused.code, hint });
}

/** What a job is told whose run or repository an operator revoked; nobody else can ask for it. */
export function revokedRefusal(): CacheError {
  return new ReasonedError("FORBIDDEN", "An operator revoked what this run or repository wrote", {
    reason: "revoked",
    hint: "Start a new run; when that is refused, too, an operator takes it back with `flywheel unquarantine`.",
  });
}

/** What the client is told when the policy gives nothing: the same whatever exists here. */
export function grantRefusal(code: GrantRefusal): CacheError {
  switch (code) {
    case "bad-request":
      return new ReasonedError("INVALID", "The view is no view's name", {
        reason: code,
        hint: "Write a view's full name: <view>, or <tenant>+<view>.",
      });
    case "write-not-granted":
      return new ReasonedError("FORBIDDEN", "This identity may write nothing here", {
        reason: code,
        hint: "Leave out the mode to read, or run on a ref that the policy trusts.",
      });
    default:
      return new ReasonedError("FORBIDDEN", "This identity is given nothing of the kind", {
        reason: "nothing-granted",
        hint: "The server's operator finds the reason in its log, by the request id.",
      });
  }
}
