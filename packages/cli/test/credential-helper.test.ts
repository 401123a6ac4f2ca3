import { mkdir, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { type CommandResult, createTemporaryDirectory, runCommand } from "@glorious/testkit";
import { describe, expect, test } from "vitest";

const LAUNCHER = fileURLToPath(new URL("../../../bin/flywheel", import.meta.url));
/** What a token may say without being worth anything: only the server could tell. */
const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
const tokenUntil = (exp: number): string =>
  `${encode({ alg: "HS256" })}.${encode({ exp, sub: "somebody" })}.signature`;
const GOOD = tokenUntil(Math.floor(Date.now() / 1000) + 3600);

async function ask(
  input: string,
  options: { readonly token?: string; readonly server?: string; readonly args?: readonly string[] },
): Promise<CommandResult> {
  await using directory = await createTemporaryDirectory();
  const { token = GOOD, server = "http://127.0.0.1:7480", args = ["get"] } = options;
  await mkdir(path.join(directory.path, "flywheel"));
  const config = { defaultServer: "it", servers: { it: { url: `${server}/`, token } } };
  const file = path.join(directory.path, "flywheel", "config.json");
  await writeFile(file, JSON.stringify(config), { mode: 0o600 });
  const env = {
    PATH: process.env["PATH"],
    HOME: directory.path,
    XDG_CONFIG_HOME: directory.path,
  };
  const result = await runCommand(LAUNCHER, ["credential-helper", ...args], { env, input });
  expect((await stat(file)).mode & 0o777).toBe(0o600);
  return result;
}

describe("the credential helper", () => {
  test("gives the saved token for the server's own address, whatever the scheme, and when to ask again", async () => {
    const { status, stdout } = await ask(
      `{"uri":"https://127.0.0.1:7480/build.bazel.remote.execution.v2.ActionCache"}`,
      {},
    );
    expect(status).toBe(0);
    const answer: unknown = JSON.parse(stdout);
    expect(answer).toEqual({
      headers: { Authorization: [`Bearer ${GOOD}`] },
      // Bazel 7.7 takes whole seconds only.
      expires: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/),
    });
  });

  test.for([
    ["another port", { uri: "https://127.0.0.1:7481/" }, {}],
    ["another host", { uri: "https://127.0.0.2:7480/" }, {}],
    ["a default port where the server has another", { uri: "https://127.0.0.1/" }, {}],
    ["a token that has expired", { uri: "https://127.0.0.1:7480/" }, { token: tokenUntil(1) }],
  ] as const)("gives nothing for %s, and does not fail", async ([, request, options]) => {
    const { status, stdout, stderr } = await ask(JSON.stringify(request), options);
    expect({ status, stdout }).toEqual({ status: 0, stdout: `{"headers":{}}\n` });
    expect(stderr).not.toContain(GOOD);
  });

  test.for(["", "{}", "no json", `{"uri": 3}`, `{"uri": "none"}`])(
    "says what it reads when it gets %j",
    async (input) => {
      const { status, stderr } = await ask(input, {});
      expect(status).toBe(1);
      expect(stderr).toContain(`{"uri": "https://…"}`);
    },
  );

  test("knows no other request than get", async () => {
    const { status, stderr } = await ask("{}", { args: ["store"] });
    expect(status).toBe(2);
    expect(stderr).toContain(`"store"`);
  });
});
