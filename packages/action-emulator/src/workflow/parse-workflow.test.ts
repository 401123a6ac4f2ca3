import { isCacheError } from "@glorious/core";
import { expect, test } from "vitest";

import { parseWorkflow } from "./parse-workflow.ts";

const WORKFLOW = `
on: { push: { branches: [main] }, pull_request: }
env: { A: 1, B: b }
jobs:
  build:
    runs-on: acme-nix
    permissions: { id-token: write }
    env: { B: c }
    steps:
      - uses: glorious/setup-attic@v1
        id: cache
        with: { timeout: 30, fail-on-error: true }
      - run: nix build
        if: \${{ always() }}
        continue-on-error: true
`;

test("a workflow of the subset is read, and its scalars are texts", () => {
  const workflow = parseWorkflow(WORKFLOW);
  expect(workflow.events).toEqual(["push", "pull_request"]);
  expect(workflow.jobs["build"]).toMatchObject({
    env: { A: "1", B: "c" },
    mayIdentify: { github: true, forgejo: false },
    steps: [
      {
        uses: "glorious/setup-attic@v1",
        id: "cache",
        with: { timeout: "30", "fail-on-error": "true" },
      },
      { run: "nix build", if: "${{ always() }}", continueOnError: true },
    ],
  });
});

test("each forge has its own words for the permission", () => {
  const read = (line: string): unknown =>
    parseWorkflow(`on: push\n${line}\njobs: { a: { steps: [] } }`).jobs["a"]?.mayIdentify;
  expect(read("permissions: {}")).toEqual({ github: false, forgejo: false, gitea: false });
  expect(read("permissions: write-all")).toMatchObject({ github: true, forgejo: false });
  expect(read("enable-openid-connect: true")).toMatchObject({ github: false, forgejo: true });
});

test.each([
  ["jobs: { a: { steps: [], strategy: {} } }", "UNSUPPORTED"],
  ["jobs: { a: { steps: [], container: x } }", "UNSUPPORTED"],
  ["jobs: { a: { steps: [{ run: x, shell: pwsh }] } }", "UNSUPPORTED"],
  ["jobs: { a: { steps: [{ name: x }] } }", "INVALID"],
  ["jobs: []", "INVALID"],
] as const)("%s is refused as %s", (text, code) => {
  expect(() => parseWorkflow(`on: push\n${text}`)).toThrow(
    expect.toSatisfy((error) => isCacheError(error, code)),
  );
});
