import { expect, test } from "vitest";

import { findIdentity } from "./identity-source.ts";

const tokenFor = (aud: unknown): string =>
  ["e30", Buffer.from(JSON.stringify({ aud })).toString("base64url"), "c2ln"].join(".");
const find = (token: string) =>
  findIdentity({ GITLAB_CI: "true", FLYWHEEL_ID_TOKEN: token }, { identityTokenFile: "/runner" });

test.each([["https://cache.example.org"], [["https://cache.example.org"]], [undefined]])(
  "a token for %j is the job's identity",
  (aud) => {
    expect(find(tokenFor(aud))).toMatchObject({ source: { kind: "token" } });
  },
);

test.each(["", "$FLYWHEEL_SERVER", "${CACHE}"])(
  "a token for %j was made for nobody: the job is what its runner is",
  (aud) => {
    expect(find(tokenFor(aud))).toMatchObject({ source: { kind: "file", path: "/runner" } });
  },
);
