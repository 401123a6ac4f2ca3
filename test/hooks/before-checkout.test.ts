import { mkdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";

import {
  createTemporaryDirectory,
  githubClaims,
  runCommand,
  startIdentityWorld,
} from "@glorious/testkit";
import { expect, test } from "vitest";

import { createCommandFolder, hookFile, writeRunnerConfig } from "./hooked-runner.ts";

const PROJECT = { owner: "acme", ownerId: 1001, repository: "acme/site", repositoryId: 2001 };
const TENANTS = {
  acme: {
    views: { main: { default: true } },
    scopes: [
      {
        ...{ issuer: "github", repository: { id: "2001" } },
        trusted: { refs: ["refs/heads/main"] },
      },
    ],
  },
};
/** As launchers do it: the project's own wrapper first, or the version that the project names. */
const LAUNCHER = `#!/bin/sh
[ -x tools/bazel ] && exec tools/bazel "$@"
echo "bazel $(cat .bazelversion 2>/dev/null || echo 9.0.0)"
`;

test("a hook goes by nothing that a job before left in the work tree, and its settings suit every Bazel", async () => {
  await using folder = await createTemporaryDirectory("flywheel-before-checkout-");
  await using world = await startIdentityWorld({ tenants: TENANTS });
  const at = (name: string): string => path.join(folder.path, name);
  await mkdir(at("left/tools"), { recursive: true });
  await writeFile(at("left/.bazelversion"), "8.4.0\n");
  await writeFile(at("left/tools/bazel"), `#!/bin/sh\ntouch ${at("ran")}\n`, { mode: 0o755 });
  await mkdir(at("image"));
  await writeFile(at("image/bazel"), LAUNCHER, { mode: 0o755 });
  await writeFile(at("github-env"), "");
  const command = await createCommandFolder(folder.path);

  const { status, stderr } = await runCommand("sh", [hookFile("job-started")], {
    cwd: at("left"),
    env: {
      ...world.jobEnvironment("github", githubClaims(PROJECT)),
      PATH: `${command}:${at("image")}:${process.env["PATH"]}`,
      HOME: folder.path,
      RUNNER_TEMP: folder.path,
      GITHUB_WORKSPACE: at("left"),
      GITHUB_ENV: at("github-env"),
      FLYWHEEL_RUNNER_CONFIG: await writeRunnerConfig(folder.path, world.server.url),
      FLYWHEEL_HOOK_SECONDS: "30",
      FLYWHEEL_SERVER_WAIT: "30s",
    },
  });
  const exported = await readFile(at("github-env"), "utf8");
  const session = /^FLYWHEEL_SESSION=(.*)$/m.exec(exported)?.[1] ?? "";
  const rc = await readFile(path.join(session, "bazelrc"), "utf8");
  await runCommand("sh", [hookFile("job-completed")], {
    env: { PATH: `${command}:${process.env["PATH"]}`, FLYWHEEL_SESSION: session },
  });

  expect(status, stderr).toBe(0);
  expect(await readFile(at("ran")).catch(() => "no")).toBe("no");
  expect(rc).toContain("--remote_cache=grpc://127.0.0.1:");
  // Of Bazel 7 and newer; an option that a Bazel does not know ends all its commands.
  expect(rc).not.toMatch(/credential_helper|compression|circuit_breaker|eviction/);
});
