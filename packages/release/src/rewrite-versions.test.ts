import { expect, test } from "vitest";

import { parseReleaseVersion } from "./release-version.ts";
import { rewriteVersions } from "./rewrite-versions.ts";

const FIRST = parseReleaseVersion("0.1.0");

test.each([
  "- uses: glorious/setup-attic@v1\n",
  "uses: https://forge.example.org/glorious/setup-attic@v1",
  "component: $CI_SERVER_FQDN/glorious/flywheel/attic@1\n",
  "write `glorious/setup-attic@v1`, which moves",
])("%j of the sources names the major that is released", (text) => {
  expect(rewriteVersions(text, FIRST)).toBe(text.replace("1", "0"));
});

test.each([
  "glorious/setup-attic@v1.2.3",
  "glorious/setup-attic@1f2e3d",
  "actions/checkout@v4",
  "someone@v1",
])("%j stays as it is", (text) => {
  expect(rewriteVersions(text, FIRST)).toBe(text);
});
