import { expect, test } from "vitest";

import { detectForge } from "./detect-forge.ts";

test.each([
  [{}, undefined],
  [{ GITHUB_ACTIONS: "true" }, "github"],
  [{ GITHUB_ACTIONS: "true", FORGEJO_ACTIONS: "true" }, "forgejo"],
  [{ GITHUB_ACTIONS: "true", GITEA_ACTIONS: "true" }, "gitea"],
  [{ GITHUB_ACTIONS: "true", GITEA_ACTIONS: "true", FORGEJO_ACTIONS: "true" }, "forgejo"],
  [{ GITLAB_CI: "true", CI: "true" }, "gitlab"],
  [{ GITHUB_ACTIONS: "false" }, undefined],
  [{ CI: "true" }, undefined],
])("%j is a job of %s", (env, forge) => {
  expect(detectForge(env)).toBe(forge);
});
