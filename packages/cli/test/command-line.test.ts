import { chmod, mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { createTemporaryDirectory, runCommand } from "@glorious/testkit";
import { expect, test } from "vitest";

const MAIN = fileURLToPath(new URL("../src/main.ts", import.meta.url));

/** Runs the command line as a process with a home of its own. */
async function flywheel(
  words: readonly string[],
  options: {
    readonly home?: string;
    readonly env?: Record<string, string>;
    readonly input?: string;
  } = {},
) {
  const { home = "/nonexistent", env = {}, input = "" } = options;
  return runCommand(process.execPath, ["--conditions=source", MAIN, ...words], {
    env: { PATH: process.env["PATH"], HOME: home, ...env },
    input,
  });
}

test("--version prints the version of the package", async () => {
  const manifest = await readFile(new URL("../package.json", import.meta.url), "utf8");
  const { version } = JSON.parse(manifest) as { version: string };
  for (const flag of ["--version", "-V"]) {
    expect(await flywheel([flag])).toMatchObject({ status: 0, stdout: `${version}\n`, stderr: "" });
  }
});

test.each([
  [["--help"]],
  [["help"]],
  [["-h"]],
  [["view", "--help"]],
  [["help", "push"]],
  [["token", "create", "-h"]],
])("%j prints help to standard output and succeeds", async (words) => {
  const { status, stdout, stderr } = await flywheel(words);
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  expect(stdout).toContain("Usage: flywheel");
  expect(stdout).toContain("Examples:");
});

test.each([
  [[], /Which command/],
  [["pusj"], /no command "pusj"\n {2}hint: Did you mean `flywheel push`/],
  [["view"], /view needs a command/],
  [["view", "creat"], /Did you mean `flywheel view create`/],
  [["--server", "x", "push"], /before a command/],
  [["push"], /push needs a PATH/],
  [["push", "--tokenfile", "x"], /Did you mean --token-file/],
  [["push", "--jobs", "0", "x"], /--jobs: "0"/],
  [["token", "create", "--pull", "a b"], /--pull: "a b" is no pattern/],
  [["token", "create"], /would allow nothing/],
  [["token", "revoke"], /JTI or --token-to-revoke/],
  [["view", "configure", "main", "--public", "--private"], /exclude each other/],
  [["completion", "tcsh"], /bash, zsh, fish/],
])(
  "%j is misuse: exit code 2, an explanation, nothing on standard output",
  async (words, message) => {
    const { status, stdout, stderr } = await flywheel(words);
    expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
    expect(stderr).toMatch(message);
    expect(stderr).toMatch(/^flywheel: /m);
  },
);

test.each([
  [["push", "/nix/store/x"], /No server is named\n {2}hint: Give --server URL/],
  [["push", "--server", "nowhere", "x", "--view", "a"], /no saved server "nowhere"/],
  [["view", "list", "--server", "ftp://a/"], /no server address/],
  [
    ["view", "list", "--server", "http://127.0.0.1:9/", "--token-file", "/nonexistent"],
    /\/nonexistent does not exist/,
  ],
  [["up", "--config", "/nonexistent"], /nonexistent/],
  [["up", "--listen", "nonsense"], /--listen/],
])("%j fails: exit code 1 and what to do", async (words, message) => {
  const { status, stdout, stderr } = await flywheel(words);
  expect({ status, stdout }).toEqual({ status: 1, stdout: "" });
  expect(stderr).toMatch(message);
});

test("a token never shows up in an error", async () => {
  const malformed = await flywheel(["view", "list", "--server", "http://127.0.0.1:9"], {
    env: { FLYWHEEL_TOKEN: "open sesame" },
  });
  expect(malformed.status).toBe(1);
  const twoLines = await flywheel(["login", "http://127.0.0.1:9", "--offline"], {
    input: "sesame\nsesame\n",
  });
  expect(twoLines.status).toBe(1);
  const inAddress = await flywheel(["login", "http://me:sesame@127.0.0.1:9", "--offline"], {
    input: "t",
  });
  expect(inAddress.status).toBe(1);
  for (const { stdout, stderr } of [malformed, twoLines, inAddress]) {
    expect(stdout + stderr).not.toContain("sesame");
  }
});

test("login saves server, token and view for the user alone", async () => {
  await using home = await createTemporaryDirectory("flywheel-home-");
  const saved = path.join(home.path, ".config", "flywheel", "config.json");
  const first = await flywheel(
    ["login", "work", "https://cache.example.org/a", "--offline", "--view", "main"],
    {
      home: home.path,
      input: "  to.k.en\n",
    },
  );
  expect(first).toMatchObject({ status: 0, stdout: "" });
  expect(first.stderr).not.toContain("to.k.en");
  const second = await flywheel(
    ["login", "http://127.0.0.1:9", "--offline", "--anonymous", "--keep-default"],
    {
      home: home.path,
    },
  );
  expect(second.status).toBe(0);
  expect(JSON.parse(await readFile(saved, "utf8"))).toEqual({
    defaultServer: "work",
    servers: {
      work: { url: "https://cache.example.org/a/", token: "to.k.en", view: "main" },
      "127.0.0.1:9": { url: "http://127.0.0.1:9/" },
    },
  });
  expect((await stat(saved)).mode & 0o777).toBe(0o600);
  expect((await stat(path.dirname(saved))).mode & 0o777).toBe(0o700);
});

test("logout forgets a server and its token, and doing it again changes nothing", async () => {
  await using home = await createTemporaryDirectory("flywheel-home-");
  const run = (words: readonly string[], input?: string) =>
    flywheel(words, { home: home.path, ...(input === undefined ? {} : { input }) });
  const saved = path.join(home.path, ".config", "flywheel", "config.json");
  await run(["login", "work", "https://cache.example.org/a", "--offline"], "to.k.en");
  await run(["login", "other", "https://other.example.org", "--offline"], "an.oth.er");
  expect(await run(["logout", "work"])).toMatchObject({ status: 0, stdout: "" });
  expect(JSON.parse(await readFile(saved, "utf8"))).toEqual({
    defaultServer: "other",
    servers: { other: { url: "https://other.example.org/", token: "an.oth.er" } },
  });
  const before = await readFile(saved, "utf8");
  const again = await run(["logout", "https://cache.example.org/a"]);
  expect(again.status).toBe(0);
  expect(again.stderr).toContain("There is no login to");
  expect(await readFile(saved, "utf8")).toBe(before);

  expect(await run(["logout"])).toMatchObject({ status: 0 });
  expect(JSON.parse(await readFile(saved, "utf8"))).toEqual({ servers: {} });
  expect(await run(["logout"])).toMatchObject({ status: 0 });
});

test("without a token login says how to give one", async () => {
  const { status, stderr } = await flywheel(["login", "http://127.0.0.1:9", "--offline"]);
  expect(status).toBe(1);
  expect(stderr).toMatch(/--token-file FILE, FLYWHEEL_TOKEN or a token on standard input/);
});

test("a saved token goes to its own server and no other", async () => {
  await using home = await createTemporaryDirectory("flywheel-home-");
  const seen: (string | undefined)[] = [];
  const server = createServer((request, response) => {
    seen.push(request.headers.authorization);
    response.setHeader("content-type", "application/json");
    response.end('{"views":[]}');
  });
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" ? address?.port : undefined;
  try {
    const url = `http://127.0.0.1:${port}`;
    await flywheel(["login", `${url}/one`, "--offline"], { home: home.path, input: "to.k.en" });
    const list = async (words: readonly string[]) =>
      flywheel(["view", "list", ...words], { home: home.path });
    expect(await list([])).toMatchObject({ status: 0 });
    expect(await list(["--server", `${url}/one/`])).toMatchObject({ status: 0 });
    expect(await list(["--server", `${url}/two`])).toMatchObject({ status: 0 });
    expect(seen.map((header) => header !== undefined)).toEqual([true, true, false]);
  } finally {
    server.close();
    server.closeAllConnections();
  }
});

test("use --undo with nothing to undo changes nothing", async () => {
  await using home = await createTemporaryDirectory("flywheel-home-");
  const folder = path.join(home.path, ".config", "nix");
  await mkdir(folder, { recursive: true });
  await writeFile(path.join(folder, "nix.conf"), "# mine");
  await chmod(path.join(folder, "nix.conf"), 0o640);
  const { status, stderr } = await flywheel(["use", "--undo"], { home: home.path });
  expect({ status, stderr: stderr.includes("nothing to undo") }).toEqual({
    status: 0,
    stderr: true,
  });
  expect(await readFile(path.join(folder, "nix.conf"), "utf8")).toBe("# mine");
});
