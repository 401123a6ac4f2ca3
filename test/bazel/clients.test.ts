import { execFileSync } from "node:child_process";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";

import {
  type CommandResult,
  createTemporaryDirectory,
  type DebianSuite,
  findDebianRoot,
  type RunningFlywheel,
  runCommand,
  runInDebianRoot,
  startFlywheel,
} from "@glorious/testkit";
import { describe, expect, test } from "vitest";

const ENV = { PATH: "/usr/bin:/bin", LC_ALL: "C.UTF-8", USER: "tester" };
const SOURCE = `#include "three.h"\nint three() { return 3; }\n`;

/** Runs a client in a folder of its own; `undefined` when this machine has none. */
type Run = (
  words: readonly [command: string, ...args: string[]],
  env?: Readonly<Record<string, string>>,
) => Promise<CommandResult>;

function inFolder(suite: DebianSuite, cwd: string): Run | string {
  const root = findDebianRoot(suite);
  if (typeof root === "string") return root;
  return ([command, ...args], env = {}) =>
    runInDebianRoot(root, command, args, { cwd, env: { ...ENV, HOME: cwd, ...env } });
}

async function said(result: Promise<CommandResult>): Promise<string> {
  const { status, stdout, stderr } = await result;
  expect({ status, stdout, stderr }).toMatchObject({ status: 0 });
  return stdout + stderr;
}

async function writeSource(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeFile(path.join(folder, "three.h"), "int three();\n");
  await writeFile(path.join(folder, "three.cc"), SOURCE);
}

function makeCertificate(folder: string, name: string): void {
  execFileSync(
    "openssl",
    [
      ...["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", `/CN=${name}`],
      ...["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
      ...["-keyout", path.join(folder, `${name}.key`), "-out", path.join(folder, `${name}.pem`)],
    ],
    { stdio: "ignore" },
  );
}

describe.for([
  ["TLS", false],
  ["mutual TLS", true],
] as const)("clients of buildbox over %s", ([, isMutual]) => {
  async function start(folder: string): Promise<RunningFlywheel> {
    makeCertificate(folder, "server");
    makeCertificate(folder, "client");
    return startFlywheel({
      env: {
        NODE_EXTRA_CA_CERTS: path.join(folder, "server.pem"),
        FLYWHEEL_TLS_CERT: path.join(folder, "server.pem"),
        FLYWHEEL_TLS_KEY: path.join(folder, "server.key"),
        ...(isMutual ? { FLYWHEEL_TLS_CLIENT_CA: path.join(folder, "client.pem") } : {}),
      },
    });
  }

  test("recc compiles once, and takes the object from the cache after that", async ({ skip }) => {
    await using folder = await createTemporaryDirectory();
    const run = inFolder("sid", folder.path);
    if (typeof run === "string") {
      skip(run);
      return;
    }
    await using server = await start(folder.path);
    await writeSource(folder.path);
    const env = {
      RECC_SERVER: server.url,
      RECC_INSTANCE: "main",
      RECC_CACHE_ONLY: "1",
      RECC_CACHE_UPLOAD_LOCAL_BUILD: "1",
      RECC_ACCESS_TOKEN_PATH: server.tokenFile,
      RECC_SERVER_CERT: path.join(folder.path, "server.pem"),
      RECC_VERBOSE: "1",
      ...(isMutual
        ? {
            RECC_CLIENT_CERT: path.join(folder.path, "client.pem"),
            RECC_CLIENT_KEY: path.join(folder.path, "client.key"),
          }
        : {}),
    };
    const compile: [string, ...string[]] = ["recc", "g++", "-c", "three.cc", "-o", "three.o"];
    const first = await said(run(compile, env));
    expect(first).not.toMatch(/Action Cache hit/i);
    const built = await readFile(path.join(folder.path, "three.o"));

    await rm(path.join(folder.path, "three.o"));
    const second = await said(run(compile, env));
    expect(second).toMatch(/Action Cache hit/i);
    expect(await readFile(path.join(folder.path, "three.o"))).toEqual(built);
  });

  test("casupload gives a directory, and casdownload gets the same", async ({ skip }) => {
    await using folder = await createTemporaryDirectory();
    const run = inFolder("sid", folder.path);
    if (typeof run === "string") {
      skip(run);
      return;
    }
    await using server = await start(folder.path);
    await writeSource(path.join(folder.path, "given", "below"));
    await writeFile(path.join(folder.path, "given", "big"), Buffer.alloc(5_000_000, "numbers 123"));
    const access = [
      `--remote=${server.url}`,
      "--instance=main",
      `--access-token=${server.tokenFile}`,
      `--server-cert=${path.join(folder.path, "server.pem")}`,
      ...(isMutual
        ? [
            `--client-cert=${path.join(folder.path, "client.pem")}`,
            `--client-key=${path.join(folder.path, "client.key")}`,
          ]
        : []),
    ];
    await said(run(["casupload", ...access, "--output-digest-file=digest", "given"]));
    const digest = await readFile(path.join(folder.path, "digest"), "utf8");
    await mkdir(path.join(folder.path, "got"));
    await said(
      run([
        "casdownload",
        ...access,
        `--root-digest=${digest.trim()}`,
        `--destination-dir=${path.join(folder.path, "got")}`,
      ]),
    );
    const difference = await runCommand("diff", ["-r", "given", "got"], { cwd: folder.path });
    expect(difference).toEqual({ status: 0, stdout: "", stderr: "" });
  });
});

/** What compiles, with its settings for a view. */
type CompilerCache = (
  url: string,
  token: string,
) => { readonly suite: DebianSuite; readonly command: string; env: Record<string, string> };

const COMPILER_CACHES: ReadonlyArray<readonly [string, CompilerCache]> = [
  ...["bazel", "subdirs", "flat"].map((layout): [string, CompilerCache] => [
    `ccache with layout ${layout}`,
    (url, token) => ({
      suite: "bookworm",
      command: "ccache",
      env: {
        CCACHE_REMOTE_STORAGE: `${url}|layout=${layout}|bearer-token=${token}`,
        CCACHE_RESHARE: "true",
      },
    }),
  ]),
  [
    "sccache",
    (url, token) => ({
      suite: "sid",
      command: "sccache",
      env: {
        SCCACHE_WEBDAV_ENDPOINT: url.replace(/\/kv$/, ""),
        SCCACHE_WEBDAV_KEY_PREFIX: "kv",
        SCCACHE_WEBDAV_TOKEN: token,
      },
    }),
  ],
];

test.for(COMPILER_CACHES)(
  "%s compiles once, and another machine takes the object from the view",
  async ([, describeCache], { skip }) => {
    await using server = await startFlywheel();
    const token = await server.readToken();
    const { suite, command, env } = describeCache(`${server.url}/main/kv`, token);
    await using folder = await createTemporaryDirectory();
    const objects: Buffer[] = [];
    for (const machine of ["one", "two"]) {
      const cwd = path.join(folder.path, machine);
      await writeSource(cwd);
      const run = inFolder(suite, cwd);
      if (typeof run === "string") {
        skip(run);
        return;
      }
      // One mount namespace and all its processes, so that sccache's own server ends with it.
      const script = `cd '${cwd}' && ${command} g++ -c three.cc -o three.o && ${command} ${command === "ccache" ? "-vvs" : "--show-stats"}`;
      const text = await said(
        run(["sh", "-c", script], {
          ...env,
          CCACHE_DIR: `${cwd}/cache`,
          CCACHE_BASEDIR: cwd,
          CCACHE_NOHASHDIR: "1",
        }),
      );
      objects.push(await readFile(path.join(cwd, "three.o")));
      if (machine === "two") {
        expect(text).toMatch(
          command === "ccache" ? /Remote storage:[^]*?Hits:\s+[1-9]/ : /Cache hits\s+1\b/,
        );
      }
    }
    expect(objects[1]).toEqual(objects[0]);
  },
);
