import { mkdir, readFile, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

import {
  createTemporaryDirectory,
  describeEachNix,
  type RunningFlywheel,
  runCommand,
  startFlywheel,
} from "@glorious/testkit";
import { expect, test } from "vitest";

const MAIN = fileURLToPath(new URL("../src/main.ts", import.meta.url));

/** A user with a home, and nothing else of this machine's. */
async function createUser(folder: string) {
  const home = path.join(folder, "home");
  await mkdir(path.join(home, ".config", "nix"), { recursive: true });
  const env = {
    PATH: process.env["PATH"],
    HOME: home,
    NIX_CONF_DIR: path.join(folder, "etc"),
    NIX_DAEMON_SOCKET_PATH: path.join(folder, "no-daemon"),
  };
  return {
    home,
    nixConf: path.join(home, ".config", "nix", "nix.conf"),
    netrc: path.join(home, ".config", "nix", "netrc"),
    env,
    run: (words: readonly string[], more: Readonly<Record<string, string>> = {}, input = "") =>
      runCommand(process.execPath, ["--conditions=source", MAIN, ...words], {
        env: { ...env, ...more },
        input,
      }),
    async logIn(server: RunningFlywheel) {
      const words = ["login", server.url, "--token-file", server.tokenFile, "--view", server.view];
      expect(await this.run(words)).toMatchObject({ status: 0 });
    },
  };
}

test("login asks the server and says what it found", async () => {
  await using server = await startFlywheel();
  await using folder = await createTemporaryDirectory("flywheel-cli-");
  const user = await createUser(folder.path);

  const good = await user.run([
    "login",
    server.url,
    "--token-file",
    server.tokenFile,
    "--view",
    "main",
  ]);
  expect(good).toMatchObject({ status: 0 });
  expect(good.stderr).toMatch(/is flywheel .*view main is there and private/);

  const wrong = await user.run(["login", "other", server.url, "--view", "main"], {}, "not.a.token");
  expect(wrong.status).toBe(1);
  expect(await user.run(["view", "list", "--server", "other"])).toMatchObject({ status: 1 });
});

test("use configures Nix as one unit, twice is once, and --undo gives the bytes back", async () => {
  await using server = await startFlywheel();
  await using folder = await createTemporaryDirectory("flywheel-cli-");
  const user = await createUser(folder.path);
  const [conf, netrc] = [
    "# mine\n!include more.conf\nsandbox = false",
    "machine other.example password p",
  ];
  await writeFile(user.nixConf, conf);
  await writeFile(
    path.join(path.dirname(user.nixConf), "more.conf"),
    `netrc-file = ${user.netrc}\n`,
  );
  await writeFile(user.netrc, netrc, { mode: 0o600 });
  await user.logIn(server);

  expect(await user.run(["use"])).toMatchObject({ status: 0 });
  const after = await readFile(user.nixConf, "utf8");
  expect(after.startsWith(`${conf}\n`)).toBe(true);
  expect(after).toContain(`extra-substituters = ${server.substituter}\n`);
  expect(after).toContain(`extra-trusted-public-keys = ${server.publicKey}\n`);
  // more.conf names the file already.
  expect(after).not.toContain("netrc-file =");
  const token = await server.readToken();
  expect(after).not.toContain(token);
  expect(await readFile(user.netrc, "utf8")).toMatch(
    /^#.*\nmachine 127\.0\.0\.1\n[^]*other\.example/,
  );

  expect(await user.run(["use"])).toMatchObject({ status: 0 });
  expect(await readFile(user.nixConf, "utf8")).toBe(after);

  expect(await user.run(["use", "--undo"])).toMatchObject({ status: 0 });
  expect(await readFile(user.nixConf, "utf8")).toBe(conf);
  expect(await readFile(user.netrc, "utf8")).toBe(netrc);
});

test("logout takes back what Nix and Bazel were given for the server, and nothing of another", async () => {
  await using server = await startFlywheel();
  await using folder = await createTemporaryDirectory("flywheel-cli-");
  const user = await createUser(folder.path);
  const conf = "sandbox = false\n";
  await writeFile(user.nixConf, conf);
  await user.logIn(server);
  expect(await user.run(["use"])).toMatchObject({ status: 0 });
  const token = await server.readToken();
  expect(await readFile(user.netrc, "utf8")).toContain(token);
  // Bazel 4 reads the token from the user's own netrc file.
  const bazel = ["use", "bazel", "--bazel-version", "4.2.3"];
  expect(await user.run(bazel)).toMatchObject({ status: 0 });
  const bazelNetrc = path.join(user.home, ".netrc");
  expect(await readFile(bazelNetrc, "utf8")).toContain(token);

  const other = ["login", "other", "http://127.0.0.1:9", "--offline", "--keep-default"];
  expect(await user.run(other, {}, "an.oth.er")).toMatchObject({ status: 0 });
  expect(await user.run(["logout", "other"])).toMatchObject({ status: 0 });
  expect(await readFile(user.netrc, "utf8")).toContain(token);

  const { status, stdout, stderr } = await user.run(["logout"]);
  expect({ status, stdout }).toEqual({ status: 0, stdout: "" });
  await expect(readFile(bazelNetrc, "utf8")).rejects.toThrow("ENOENT");
  await expect(readFile(path.join(user.home, ".bazelrc"), "utf8")).rejects.toThrow("ENOENT");
  expect(stderr).not.toContain(token);
  expect(await readFile(user.nixConf, "utf8")).toBe(conf);
  await expect(readFile(user.netrc, "utf8")).rejects.toThrow("ENOENT");
  expect(await user.run(["view", "list"])).toMatchObject({ status: 1 });
  expect(await user.run(["logout"])).toMatchObject({ status: 0 });
});

test("keys overlap from rotate to retire, and use trusts those there are", async () => {
  await using server = await startFlywheel();
  await using folder = await createTemporaryDirectory("flywheel-cli-");
  const user = await createUser(folder.path);
  await user.logIn(server);
  const trusted = async (): Promise<string | undefined> => {
    expect(await user.run(["use"])).toMatchObject({ status: 0 });
    return /^extra-trusted-public-keys = (.*)$/m.exec(await readFile(user.nixConf, "utf8"))?.[1];
  };
  const oldName = server.publicKey.split(":")[0] ?? "";

  const last = await user.run(["key", "retire", oldName]);
  expect(last.status).toBe(1);
  expect(last.stderr).toContain(`${oldName} is the only signing key`);

  const rotated = await user.run(["key", "rotate", "--wait"]);
  expect(rotated).toMatchObject({ status: 0, stdout: expect.stringMatching(/^main-\w+:\S+\n$/) });
  const newKey = rotated.stdout.trim();
  expect(await trusted()).toBe(`${server.publicKey} ${newKey}`);
  const listed = await user.run(["key", "list"]);
  expect(listed.stdout.split("\n").map((line) => line.split(/\s+/)[1])).toEqual([
    "PUBLIC",
    server.publicKey,
    newKey,
    undefined,
  ]);

  expect(await user.run(["key", "retire", oldName, "--wait"])).toMatchObject({ status: 0 });
  expect(await trusted()).toBe(newKey);
  const { stdout } = await user.run(["key", "list", "--wait", "--json"]);
  expect(JSON.parse(stdout)).toMatchObject({ keys: [{ publicKey: newKey }], outdatedPaths: 0 });
  const absent = await user.run(["key", "retire", oldName]);
  expect(absent).toMatchObject({ status: 1, stderr: expect.stringContaining("key list") });
});

test("use changes nothing at all when one of its files cannot be written", async () => {
  await using server = await startFlywheel();
  await using folder = await createTemporaryDirectory("flywheel-cli-");
  const user = await createUser(folder.path);
  await user.logIn(server);
  // A folder in the place of nix.conf: even root cannot write that.
  await mkdir(user.nixConf);
  const { status, stderr } = await user.run(["use"]);
  expect(status).toBe(1);
  expect(stderr).toMatch(/nix\.conf is a folder/);
  await expect(stat(user.netrc)).rejects.toMatchObject({ code: "ENOENT" });
});

test("a token may do what was said and can be revoked", async () => {
  await using server = await startFlywheel();
  await using folder = await createTemporaryDirectory("flywheel-cli-");
  const user = await createUser(folder.path);
  await user.logIn(server);
  const file = path.join(folder.path, "ci.token");

  const made = await user.run([
    "token",
    "create",
    "--sub",
    "ci",
    "--pull",
    "a*",
    "--push",
    "main",
    "--out",
    file,
  ]);
  expect(made).toMatchObject({ status: 0, stdout: "" });
  expect((await stat(file)).mode & 0o777).toBe(0o600);
  const shown = await user.run(["token", "inspect", file]);
  expect(shown.stdout).toMatch(/subject +ci[^]*administrator +no[^]*a\* +pull\n +main +push\n/);
  expect(shown.stdout + shown.stderr).not.toContain((await readFile(file, "utf8")).trim());

  const asCi = { FLYWHEEL_TOKEN: (await readFile(file, "utf8")).trim() };
  expect(await user.run(["view", "destroy", "main", "--yes"], asCi)).toMatchObject({ status: 1 });
  expect(await user.run(["view", "info", "main"], asCi)).toMatchObject({ status: 1 });
  expect((await user.run(["view", "list", "--json"], asCi)).stdout).toContain('"name":"main"');
  expect(await user.run(["token", "revoke", "--token-to-revoke", file])).toMatchObject({
    status: 0,
  });
  expect((await user.run(["view", "list", "--json"], asCi)).stdout).not.toContain('"name":"main"');
});

test("a view's life: create, configure, stats, destroy", async () => {
  await using server = await startFlywheel();
  await using folder = await createTemporaryDirectory("flywheel-cli-");
  const user = await createUser(folder.path);
  await user.logIn(server);
  const info = async (): Promise<unknown> =>
    JSON.parse((await user.run(["view", "info", "acme+ci", "--json"])).stdout);

  const create = [
    "view",
    "create",
    "acme+ci",
    "--public",
    "--retention",
    "30d",
    "--priority",
    "30",
  ];
  expect(await user.run(create)).toMatchObject({ status: 0 });
  expect(await user.run(create)).toMatchObject({ status: 1 });
  expect(await info()).toMatchObject({
    isPublic: true,
    priority: 30,
    retentionPeriod: { seconds: 2_592_000 },
  });

  const configure = ["view", "configure", "acme+ci", "--private", "--retention", "default"];
  expect(await user.run(configure)).toMatchObject({ status: 0 });
  expect(await info()).toMatchObject({ isPublic: false, priority: 30, retentionPeriod: "global" });

  const stats = await user.run(["view", "stats", "acme+ci", "--json"]);
  expect(JSON.parse(stats.stdout)).toMatchObject({ view: "acme+ci", paths: 0 });
  expect(await user.run(["view", "destroy", "acme+ci"])).toMatchObject({ status: 2 });
  expect(await user.run(["view", "destroy", "acme+ci", "--yes"])).toMatchObject({ status: 0 });
  expect(await user.run(["view", "info", "acme+ci"])).toMatchObject({ status: 1 });
});

test("up stops at a signal with exit code 0 and finds everything again", async () => {
  await using folder = await createTemporaryDirectory("flywheel-cli-");
  const dataDirectory = path.join(folder.path, "data");
  const first = await startFlywheel({ dataDirectory });
  const token = await first.readToken();
  // An operator's log begins with where the server is, and not with how its folder came to be.
  const logged = first
    .logs()
    .split("\n")
    .filter((line) => line.startsWith('{"level"'));
  expect(logged.map((line) => JSON.parse(line))).toEqual([
    expect.objectContaining({ message: "listening", url: first.url }),
  ]);
  expect(await first.stop()).toBe(0);
  const second = await startFlywheel({ dataDirectory, args: ["--public"] });
  expect(second.publicKey).toBe(first.publicKey);
  expect(await second.readToken()).toBe(token);
  const anonymous = await fetch(`${second.substituter}/nix-cache-info`);
  expect(anonymous.status).toBe(200);
  second.kill("SIGINT");
  expect(await second.exited).toBe(0);
});

describeEachNix("the lines that up prints", (nix) => {
  test.each(["bash", "dash"])("pasted into %s, they push and substitute", async (shell) => {
    await using server = await startFlywheel();
    await using folder = await createTemporaryDirectory("flywheel-cli-");
    const user = await createUser(folder.path);
    const ready = server
      .logs()
      .split("\n")
      .find((line) => line.startsWith('{"url"'));
    const { commands } = JSON.parse(ready ?? "{}") as { commands: string[] };

    const { status, stdout, stderr } = await runCommand(shell, [], {
      env: { ...user.env, PATH: `${nix.binDirectory}:${process.env["PATH"]}` },
      input: `${commands.join("\n")}\n`,
    });

    expect({ status, stderr }).toMatchObject({ status: 0 });
    expect(stdout).toMatch(/Hello from your own cache, with .*-hello-dependency\n$/);
    expect(stderr).toMatch(
      new RegExp(`copying path '/nix/store/[^']*-hello-flywheel' from '${server.substituter}'`),
    );
  });
});
