import { readFile } from "node:fs/promises";

import { expect, test } from "vitest";

import type { GrantRefusal } from "../grant/grant.ts";
import type { IdentityRefusal } from "../identity/verify-identity-token.ts";
import { parseTrustPolicy } from "./parse-trust-policy.ts";
import { POLICY_PARTS } from "./policy-schema.ts";

const DOCS = new URL("../../../../docs/", import.meta.url);
const PAGE = await readFile(new URL("reference/policy.md", DOCS), "utf8");

const REFUSALS: Readonly<Record<GrantRefusal | IdentityRefusal, true>> = {
  "unknown-issuer": true,
  "no-matching-scope": true,
  "ids-required": true,
  "confirm-again": true,
  "untrusted-no-read": true,
  "view-not-granted": true,
  "write-not-granted": true,
  "bad-request": true,
  "too-large": true,
  malformed: true,
  "duplicate-key": true,
  "wrong-type": true,
  "wrong-algorithm": true,
  "unknown-key": true,
  "bad-signature": true,
  "wrong-issuer": true,
  "wrong-audience": true,
  "no-expiry": true,
  expired: true,
  "not-yet-valid": true,
  "too-long-lived": true,
  "bad-claims": true,
};

/** What stands in the first column of a section's tables. */
function rowsOf(heading: string): string[] {
  const [, section = ""] = PAGE.split(`\n## ${heading}\n`);
  const [own = ""] = section.split("\n## ");
  return [...own.matchAll(/^\| `([^`]+)`/gm)].map(([, field = ""]) => field);
}

test.each(Object.entries(POLICY_PARTS))(
  "the reference has a row for each field of: %s",
  (part, fields) => {
    expect(rowsOf(part)).toEqual(fields);
  },
);

test("the reference has a row for each refusal", () => {
  expect(rowsOf("Refusals").toSorted()).toEqual(Object.keys(REFUSALS).toSorted());
});

test.each(["reference/policy.md", "how-to/policy.md"])(
  "the policies in %s are good",
  async (page) => {
    const text = await readFile(new URL(page, DOCS), "utf8");
    const policies = [...text.matchAll(/```yaml\n(version: 1\n[^]*?)```/g)].map(
      ([, policy = ""]) => policy,
    );
    expect(policies.length).toBeGreaterThan(0);
    for (const policy of policies) {
      expect(parseTrustPolicy(policy)).toMatchObject({ kind: "valid", warnings: [] });
    }
  },
);
