import { once } from "node:events";
import { chmod, chown, mkdir, readdir, symlink, writeFile } from "node:fs/promises";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";

import {
  type CommandResult,
  createTemporaryDirectory,
  findOlderNode,
  type IdentityWorld,
  runCommand,
  startFaultProxy,
  startIdentityWorld,
  type TemporaryDirectory,
} from "@glorious/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { fillIn, readComponent } from "./component-job.ts";
import { JOBS, TENANTS } from "./gitlab-jobs.ts";

const nodeOf = (line: 16 | 22): string | undefined => {
  const found = findOlderNode(line);
  return "node" in found ? found.node : undefined;
};
const [oldNode, olderNode] = [nodeOf(16), nodeOf(22)];
const NODE = path.dirname(process.execPath);
/** What the shells of jobs are, and how GitLab's runner calls them. */
const SHELLS = [
  ["dash", ["sh", "-eu"]],
  ["bash", ["bash", "--noprofile", "--norc", "-euo", "pipefail"]],
  ["bash as sh", ["bash", "--posix", "-eu"]],
  ["busybox", ["busybox", "sh", "-eu"]],
] as const;

let folder: TemporaryDirectory;
let world: IdentityWorld;
let tools: string;
/** An address where nobody listens. */
let away: string;
const shells: (readonly [string, readonly [string, ...string[]]])[] = [];
beforeAll(async () => {
  folder = await createTemporaryDirectory("flywheel-component-");
  world = await startIdentityWorld({ tenants: TENANTS });
  // What every image with a shell has, and nothing of ours.
  tools = path.join(folder.path, "tools");
  await mkdir(tools);
  for (const tool of ["sh", "bash", "busybox", "env", "cat", "mkdir", "chmod", "rm", "sleep"]) {
    const { stdout } = await runCommand("sh", ["-c", `command -v ${tool} || :`]);
    if (stdout.trim() !== "") await symlink(stdout.trim(), path.join(tools, tool));
  }
  const { url, close } = await listen((_, response) => response.end());
  close();
  away = url;
  const here = await readdir(tools);
  shells.push(...SHELLS.filter(([, [program]]) => here.includes(program)));
});
afterAll(async () => {
  await world[Symbol.asyncDispose]();
  await folder[Symbol.asyncDispose]();
});

/** Starts a server that answers like this. */
async function listen(
  answer: RequestListener,
): Promise<{ readonly url: string; readonly close: () => void }> {
  const server = createServer(answer);
  await once(server.listen(0, "127.0.0.1"), "listening");
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}`, close: () => server.close() };
}

interface Job {
  readonly component?: "attic" | "bazel";
  readonly inputs?: Readonly<Record<string, string>>;
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly shell?: readonly string[];
  readonly script?: string;
  /** What was there before, told the project's folder. */
  readonly before?: (directory: string) => Promise<void>;
}

let count = 0;

/** Runs a job's three scripts as GitLab's runner does: two in one shell, the last one in another. */
async function runJob({
  component = "bazel",
  inputs = {},
  env = {},
  shell = ["sh", "-eu"],
  ...job
}: Job) {
  count += 1;
  const builds = path.join(folder.path, "builds", String(count));
  const directory = path.join(builds, "site");
  await mkdir(directory, { recursive: true });
  await job.before?.(directory);
  const { before, after } = await fillIn(component, {
    "server-url": world.server.url,
    "bazel-version": "8.0.0",
    bazelrc: "file",
    ...inputs,
  });
  const { script = 'echo "the cache is $FLYWHEEL_STATUS"' } = job;
  const [program = "sh", ...words] = shell;
  const run = (text: string): Promise<CommandResult> =>
    runCommand(program, words, {
      cwd: directory,
      input: text,
      env: {
        PATH: `${tools}:${NODE}`,
        HOME: path.join(builds, "home"),
        CI_PROJECT_DIR: directory,
        CI_JOB_ID: "77",
        // A busy machine is no slow server.
        FLYWHEEL_SERVER_WAIT: "30s",
        ...world.jobEnvironment("gitlab", JOBS.main),
        ...env,
      },
    });
  const main = await run(`${before}\n${script}\necho went on`);
  const end = await run(after);
  const left = [path.join(builds, "home"), `${directory}.tmp`].map(filesIn);
  return { main, end, left: (await Promise.all(left)).flat() };
}

const filesIn = (directory: string): Promise<string[]> => readdir(directory).catch(() => []);
const linesOf = ({ stderr }: CommandResult): string[] => stderr.trim().split("\n");

test("every shell of a job gets the client from the server, uses the cache, and leaves nothing behind", async () => {
  expect(shells.length).toBeGreaterThanOrEqual(3);
  for (const [name, shell] of shells) {
    const { main, end, left } = await runJob({
      shell,
      script: 'echo "the cache is $FLYWHEEL_STATUS"; flywheel session >/dev/null && echo found',
    });

    expect([name, main.status, main.stdout], main.stderr).toEqual([
      name,
      0,
      "the cache is ready\nfound\nwent on\n",
    ]);
    expect([name, end.status], end.stderr).toEqual([name, 0]);
    expect(left).toEqual([]);
  }
});

test("a job that has the command in its image uses that, and asks for no other", async () => {
  const bin = path.join(folder.path, "image");
  await mkdir(bin);
  await writeFile(path.join(bin, "flywheel"), `#!/bin/sh\necho "$@" >&2\ncat >&2\n`);
  await chmod(path.join(bin, "flywheel"), 0o755);
  const { main } = await runJob({
    env: { PATH: `${bin}:${tools}` },
    inputs: { "config-name": "ci" },
    script: "echo",
  });

  expect(main.status).toBe(0);
  expect(main.stderr).toMatch(/^setup --kind bazel --inputs - --shell\nserver-url=http/);
  expect(main.stderr).toContain("\nconfig-name=ci\n");
});

describe("a job goes on without the cache and says why in one line", () => {
  test.each([
    ["there is neither the command nor Node", { PATH: "TOOLS" }, /neither flywheel nor Node/],
    ["no server is named", { "server-url": "$FLYWHEEL_SERVER" }, /no server is named/],
    ["the address is none", { "server-url": "$CACHE", CACHE: "cache" }, /cache is no server addr/],
    ["the server is away", { "server-url": "$AWAY" }, /could not be fetched.*ECONNREF/],
    ["its folder cannot be made", { CI_PROJECT_DIR: "/proc/1/site" }, /flywheel-77 cannot be made/],
  ])("%s", async (_, given, line) => {
    const { PATH, CACHE, CI_PROJECT_DIR, ...inputs } = given as Record<string, string>;
    for (const [name, shell] of shells) {
      const { main, end } = await runJob({
        shell,
        inputs,
        env: {
          ...(PATH === undefined ? {} : { PATH: tools }),
          ...(CI_PROJECT_DIR === undefined ? {} : { CI_PROJECT_DIR }),
          CACHE,
          AWAY: away,
        },
      });

      const said = "the cache is degraded\nwent on\n";
      expect([name, main.status, main.stdout], main.stderr).toEqual([name, 0, said]);
      expect(linesOf(main)).toEqual([expect.stringMatching(line)]);
      expect(main.stderr).toMatch(/^flywheel: .*: the job goes on without the cache$/m);
      expect(end.status, end.stderr).toBe(0);
    }
  });

  test("the server takes the connection and says nothing", async () => {
    await using proxy = await startFaultProxy(
      () => 9,
      () => ({ after: { bytes: 0, towards: "server", kind: "black-hole" } }),
    );

    const { main } = await runJob({ inputs: { "server-url": `http://127.0.0.1:${proxy.port}` } });

    expect([main.status, main.stdout]).toEqual([0, "the cache is degraded\nwent on\n"]);
    expect(linesOf(main)).toEqual([expect.stringMatching(/it took too long: the job goes on/)]);
  });

  test("what comes is not the client that is pinned, and it is not run", async () => {
    const { url, close } = await listen((_, response) => response.end("console.log('evil')"));

    const { main, left } = await runJob({ inputs: { "server-url": url } });
    close();

    expect(main.stdout).toBe("the cache is degraded\nwent on\n");
    expect(linesOf(main)).toEqual([expect.stringMatching(/is not run: the job goes on/)]);
    expect(left).toEqual([]);
  });

  test("the server has another version's client", async () => {
    const { url, close } = await listen((_, response) => response.writeHead(404).end());

    const { main } = await runJob({ inputs: { "server-url": url } });
    close();

    expect(linesOf(main)).toEqual([expect.stringMatching(/answered 404 .*: the job goes on/)]);
  });

  test.skipIf(oldNode === undefined)("Node 16", async () => {
    const { main } = await runJob({ env: { PATH: `${tools}:${path.dirname(oldNode ?? "")}` } });

    expect(linesOf(main)).toEqual([
      expect.stringMatching(/Node 16[.\d]+ is too old.*: the job goes/),
    ]);
  });
});

test.skipIf(olderNode === undefined)("Node 22 runs the client of the server", async () => {
  const { main } = await runJob({ env: { PATH: `${tools}:${path.dirname(olderNode ?? "")}` } });

  expect([main.status, main.stdout], main.stderr).toEqual([0, "the cache is ready\nwent on\n"]);
});

test.each([
  ["no HOME", { HOME: undefined }],
  ["a HOME that cannot be written", { HOME: "/proc/1" }],
  ["an empty environment beside", { USER: "", TMPDIR: "", RUNNER_TEMP: "" }],
])("a job with %s uses the cache", async (_, env) => {
  const { main, end } = await runJob({ env });

  expect([main.status, main.stdout], main.stderr).toEqual([0, "the cache is ready\nwent on\n"]);
  expect(end.status, end.stderr).toBe(0);
});

test("a server that the runner alone names is found, and a token that was made for nobody says nothing", async () => {
  const file = path.join(folder.path, "runner.json");
  await writeFile(file, JSON.stringify({ version: 1, server: world.server.url }));
  const token = ["e30", Buffer.from('{"aud":""}').toString("base64url"), "c2ln"].join(".");

  const { main } = await runJob({
    inputs: { "server-url": "$FLYWHEEL_SERVER" },
    env: { FLYWHEEL_RUNNER_CONFIG: file, FLYWHEEL_ID_TOKEN: token },
  });

  expect([main.status, main.stdout]).toEqual([0, "the cache is disabled\nwent on\n"]);
  expect(main.stderr).toMatch(/^disabled: The job has no identity, and there is no public view/m);
});

test("inputs that are empty are as if they were not given", async () => {
  const { main } = await runJob({
    inputs: {
      cache: "",
      audience: "",
      token: "",
      "instance-name": "",
      "config-name": "",
      push: "",
    },
  });

  expect([main.status, main.stdout], main.stderr).toEqual([0, "the cache is ready\nwent on\n"]);
});

test.each([
  ["timeout", { timeout: "0" }, /The input timeout: "0" is no whole number from 1/],
  ["remote-timeout", { "remote-timeout": "-5" }, /The input remote-timeout: "-5"/],
  ["download", { download: "some" }, /The input download: "some" is none of/],
  ["cache", { cache: "$(exit 1) `exit` ' \" \\" }, /degraded|no view/],
])("a value of %s that makes no sense is named, and the job goes on", async (_, inputs, line) => {
  const { main } = await runJob({ inputs });

  expect([main.status, main.stdout], main.stderr).toEqual([0, "the cache is degraded\nwent on\n"]);
  expect(main.stderr).toMatch(line);
});

test("no character of a push filter reaches the shell", async () => {
  const given = String.raw`'"$(touch hit)` + "`touch hit`" + String.raw`\.drv$` + "\n^-doc$";
  const bin = path.join(folder.path, "echoing");
  await mkdir(bin);
  await writeFile(path.join(bin, "flywheel"), "#!/bin/sh\ncat >&2\n", { mode: 0o755 });

  const { main } = await runJob({
    component: "attic",
    inputs: { "push-filter": given },
    env: { PATH: `${bin}:${tools}` },
    script: "[ ! -e hit ]",
  });

  expect(main.status, main.stderr).toBe(0);
  expect(main.stderr).toContain(`\npush-filter=${given}\n`);
});

describe("what an earlier job left under this one's number", () => {
  /** Whatever program is looked for there first says that it was run, and so does one that a session names. */
  const plant = async (directory: string): Promise<void> => {
    const bin = path.join(`${directory}.tmp`, "flywheel-77", "bin");
    await mkdir(bin, { recursive: true });
    for (const name of ["flywheel", "cat"]) {
      await writeFile(path.join(bin, name), "#!/bin/sh\necho planted >&2\n", { mode: 0o755 });
    }
    const session = path.join(bin, "..", "flywheel-00000000");
    await mkdir(session);
    await writeFile(path.join(session, "settings.json"), "{}");
  };

  test("is neither run nor taken for this one's, be the command in the image or not", async () => {
    const bin = path.join(folder.path, "image-of-planted");
    await mkdir(bin);
    await writeFile(path.join(bin, "flywheel"), "#!/bin/sh\n", { mode: 0o755 });
    for (const [name, shell] of shells) {
      for (const given of [{}, { PATH: `${bin}:${tools}` }]) {
        const { main, end, left } = await runJob({
          ...{ shell, before: plant },
          env: given,
          script: "cat </dev/null",
        });

        expect([name, main.status, main.stdout], main.stderr).toEqual([name, 0, "went on\n"]);
        expect(`${main.stderr}${end.stderr}`).not.toContain("planted");
        expect(left).toEqual([]);
      }
    }
  });

  test.runIf(process.getuid?.() === 0)(
    "is left alone by the end of a job that it is not of",
    async () => {
      const directory = path.join(folder.path, "of-another");
      await plant(directory);
      await chown(path.join(`${directory}.tmp`, "flywheel-77"), 1000, 1000);
      const { after } = await fillIn("attic", {});
      for (const [name, [program, ...words]] of shells) {
        const { status, stdout, stderr } = await runCommand(program, words, {
          input: after,
          cwd: folder.path,
          env: { PATH: tools, CI_PROJECT_DIR: directory, CI_JOB_ID: "77" },
        });

        expect({ name, status, stdout, stderr }).toEqual({
          name,
          status: 0,
          stdout: "",
          stderr: "",
        });
      }
      expect(await readdir(`${directory}.tmp`)).toEqual(["flywheel-77"]);
    },
  );
});

test.each(["attic", "bazel"] as const)(
  "no value that an input of %s takes ends the list of inputs before its end",
  async (component) => {
    const { inputs } = await readComponent(component);
    const { before } = await fillIn(component, {});
    const [, end = ""] = /cat <<'(.*)'$/m.exec(before) ?? [];
    expect(end).not.toBe("");
    for (const [name, { type = "string", options, regex = "" }] of Object.entries(inputs)) {
      if (type !== "string" || options !== undefined) continue;
      const value = `a\n${end}\ntouch hit\n`;
      expect([name, new RegExp(regex).test(value)]).toEqual([name, false]);
    }
  },
);

test("fail-on-error makes a failure of what went wrong, and of nothing else", async () => {
  const inputs = { "fail-on-error": "true" };
  const broken = await runJob({ inputs: { ...inputs, "server-url": away } });
  expect(broken.main.status).toBe(1);
  expect(broken.main.stdout).not.toContain("went on");
  expect(linesOf(broken.main).at(-1)).toBe(
    "flywheel: fail-on-error is set, and the cache is degraded",
  );

  const well = await runJob({ inputs });
  expect([well.main.status, well.main.stdout]).toEqual([0, "the cache is ready\nwent on\n"]);
});

test("the end of a job that never began is quiet", async () => {
  const { after } = await fillIn("attic", {});
  const { status, stdout, stderr } = await runCommand("sh", ["-eu"], {
    input: after,
    cwd: folder.path,
    env: { PATH: tools },
  });

  expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: "", stderr: "" });
});

test("a job that has an sh and no bash uses the cache", async () => {
  const sole = path.join(folder.path, "sole");
  await mkdir(sole);
  for (const tool of (await readdir(tools)).filter((name) => name !== "bash")) {
    await symlink(path.join(tools, tool), path.join(sole, tool));
  }

  const { main, end } = await runJob({ env: { PATH: `${sole}:${NODE}` } });

  expect([main.status, main.stdout], main.stderr).toEqual([0, "the cache is ready\nwent on\n"]);
  expect(end.status, end.stderr).toBe(0);
});

test.each([
  ["no HOME", { HOME: undefined }, /^degraded: There is no HOME, so Bazel/m],
  ["a HOME that cannot be written", { HOME: "/proc/1" }, /bazelrc cannot be written/],
])("a job with %s is told how Bazel uses the cache all the same", async (_, env, line) => {
  const { main, end } = await runJob({ env, inputs: { bazelrc: "user" } });

  expect([main.status, main.stdout]).toEqual([0, "the cache is degraded\nwent on\n"]);
  expect(main.stderr).toMatch(line);
  expect(main.stderr).toMatch(/^ {2}bazel --bazelrc=/m);
  expect(end.status, end.stderr).toBe(0);
});
