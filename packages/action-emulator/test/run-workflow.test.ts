import { execFileSync } from "node:child_process";
import path from "node:path";

import { expect, test } from "vitest";

import { runWorkflow } from "../src/index.ts";
import { createTestFolder } from "./action-folder.ts";

const WORKFLOW = `
on: [push, pull_request]
permissions: { contents: read, id-token: write }
jobs:
  build:
    runs-on: [acme-nix]
    steps:
      - uses: actions/checkout@v4
      - uses: https://forge.example.org/acme/hello@v1
        id: hello
        with: { who: "\${{ github.event_name }}" }
      - run: cat greeting.txt; echo \${{ steps.hello.outputs.said }} [$ACTIONS_ID_TOKEN_REQUEST_TOKEN]
`;

test("a workflow file's steps run in a copy of the repository, with the identity that it asks for", async () => {
  await using folder = await createTestFolder();
  const action = await folder.action("hello", {
    main: `put("OUTPUT", "said=hello " + input("who"))`,
  });
  await folder.write("repository/greeting.txt", "good day\n");
  const file = await folder.write("repository/.github/workflows/ci.yml", WORKFLOW);
  const options = {
    file,
    repositoryDirectory: path.dirname(path.join(file, "../..")),
    directory: folder.runner,
    identity: { requestUrl: "http://127.0.0.1:9/", requestToken: "request-token" },
    actions: { "acme/hello": action },
  };

  const onGithub = await runWorkflow({ ...options, event: { name: "pull_request" } });
  const onForgejo = await runWorkflow({ ...options, flavour: "forgejo" });

  expect(onGithub.steps.at(-1)?.log).toBe("good day\nhello pull_request [***]\n");
  expect(onForgejo.steps.at(-1)?.log).toBe("good day\nhello push []\n");
});

test("a full address is its own forge's action, and a bare repository is checked out at the reference", async () => {
  await using folder = await createTestFolder();
  const ours = await folder.action("ours", { main: `say("ours")` });
  const source = await folder.action("source", { main: `say("v1")` });
  const git = (...words: readonly string[]): void =>
    void execFileSync("git", [
      "-C",
      source,
      "-c",
      "init.defaultBranch=master",
      "-c",
      "user.name=t",
      "-c",
      "user.email=t@t",
      ...words,
    ]);
  git("init", "--quiet");
  git("add", ".");
  git("commit", "--quiet", "-m", "one");
  git("tag", "v1");
  await folder.write("source/main.mjs", `console.log("later")`);
  git("commit", "--quiet", "-am", "two");
  const bare = path.join(path.dirname(source), "bare.git");
  execFileSync("git", ["clone", "--quiet", "--bare", source, bare]);
  const uses = (name: string): string => `      - uses: ${name}\n`;
  const write = (...names: readonly string[]): Promise<string> =>
    folder.write(
      "ci.yml",
      WORKFLOW.replace(/( {4}steps:\n)[^]*$/, "$1") + names.map(uses).join(""),
    );
  const options = {
    repositoryDirectory: folder.runner,
    directory: folder.runner,
    flavour: "gitea",
    actions: { "https://forge.example.org/acme/hello": ours, "acme/hello": bare },
  } as const;

  const job = await runWorkflow({
    ...options,
    file: await write(
      "https://forge.example.org/acme/hello@v9",
      "https://other.example.org/acme/hello@v1",
      "acme/hello@master",
    ),
  });

  expect(job.steps.map(({ name, log }) => [name, log])).toEqual([
    ["hello", "ours\n"],
    ["hello", "v1\n"],
    ["hello", "later\n"],
  ]);
  const missing = { ...options, file: await write("acme/hello@v2") };
  await expect(runWorkflow(missing)).rejects.toThrow(/acme\/hello@v2 cannot be checked out/);
});

test("an action without a folder, an event that it does not run on and an unclear job are refused", async () => {
  await using folder = await createTestFolder();
  const file = await folder.write("ci.yml", WORKFLOW);
  const options = { file, repositoryDirectory: folder.runner, directory: folder.runner };

  await expect(runWorkflow({ ...options, actions: {} })).rejects.toThrow(/"https:.*hello@v1"/);
  const onSchedule = { ...options, actions: {}, event: { name: "schedule" } };
  await expect(runWorkflow(onSchedule)).rejects.toThrow(/does not run on schedule/);
  await expect(runWorkflow({ ...options, actions: {}, job: "test" })).rejects.toThrow(/1 jobs/);
});
