import { randomBytes, randomUUID } from "node:crypto";

import { silentLogger } from "@glorious/core";
import {
  createFixedCredentials,
  createStatistics,
  type NixFace,
  startNixFace,
  type Statistics,
} from "@glorious/runner-agent";
import {
  type CommandResult,
  createNixSandbox,
  createTemporaryDirectory,
  describeEachNix,
  type NixSandbox,
  type NixVersion,
  type RunningFlywheel,
  startFaultProxy,
  startFlywheel,
} from "@glorious/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";

let server: RunningFlywheel;
beforeAll(async () => {
  server = await startFlywheel();
});
afterAll(() => server[Symbol.asyncDispose]());

interface NixJob extends AsyncDisposable {
  readonly face: NixFace;
  readonly statistics: Statistics;
}

/** A face as an agent has it, with the token that Nix is not given. */
async function startNixJob(port = Number(new URL(server.url).port)): Promise<NixJob> {
  await using resources = new AsyncDisposableStack();
  const { path: directory } = resources.use(await createTemporaryDirectory("flywheel-face-"));
  const statistics = createStatistics();
  const address = `http://127.0.0.1:${port}`;
  const face = resources.use(
    await startNixFace({
      secret: randomBytes(16).toString("base64url"),
      upstream: {
        kind: "flywheel",
        substituterUrl: `${address}/${server.view}`,
        api: new URL(`${address}/_flywheel/v1/`),
        view: server.view,
      },
      credentials: createFixedCredentials(await server.readToken()),
      spoolDirectory: directory,
      deadlineMs: 2000,
      statistics,
      logger: silentLogger,
    }),
  );
  const owned = resources.move();
  return { face, statistics, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

const PATHS = 12;

/** A chain of paths, each of which holds bytes that do not compress and refers to the one before. */
function createExpression(): string {
  const seed = randomUUID();
  return `let
    make = n: before: builtins.derivation {
      name = "link-\${toString n}"; system = builtins.currentSystem; builder = "/bin/sh"; PATH = "/usr/bin:/bin";
      args = [ "-c" "mkdir $out; echo \${before} >$out/before; openssl enc -aes-128-ctr -nosalt -pbkdf2 -iter 1 -pass pass:${seed}\${toString n} </dev/zero 2>/dev/null | head -c 400000 >$out/noise" ];
    };
    chain = n: if n == 0 then make 0 "" else make n (chain (n - 1));
  in chain ${PATHS - 1}`;
}

/** A job's Nix: the face is its only cache, and it has no token. */
function createJobNix(version: NixVersion, { face }: NixJob): Promise<NixSandbox> {
  return createNixSandbox(version, {
    substituters: [face.url],
    trustedKeys: [server.publicKey],
    extra: { fallback: "true", "narinfo-cache-negative-ttl": "0", "download-attempts": "3" },
  });
}

function build(sandbox: NixSandbox, expression: string): Promise<CommandResult> {
  return sandbox.run("nix-build", ["--no-out-link", "--expr", expression]);
}

const countOf = (text: string, pattern: RegExp): number => [...text.matchAll(pattern)].length;
const SUBSTITUTED = /copying path '/g;
const BUILT = /building '/g;

describeEachNix("a job that reads through the Nix face", (version) => {
  let expression: string;
  let closure: readonly string[];
  let owner: NixSandbox;
  beforeAll(async () => {
    expression = createExpression();
    owner = await createNixSandbox(version, {
      netrc: [{ password: await server.readToken() }],
    });
    const top = await owner.output("nix-build", ["--no-out-link", "--expr", expression]);
    closure = (await owner.output("nix-store", ["-qR", top])).split("\n");
    await owner.output("nix", ["copy", "--to", `${server.substituter}?compression=zstd`, top]);
    await forget();
  });
  afterAll(async () => {
    await forget();
    await owner[Symbol.asyncDispose]();
  });

  /** The machine's store has none of it. */
  async function forget(): Promise<void> {
    await owner.run("nix-store", ["--delete", ...closure]);
  }

  test("gets all of it, each NAR ahead of its question", async () => {
    await using job = await startNixJob();
    await using nix = await createJobNix(version, job);
    const result = await build(nix, expression);
    await forget();
    expect([result.status, result.stderr]).toEqual([0, expect.any(String)]);
    expect(countOf(result.stderr, SUBSTITUTED)).toBe(PATHS);
    expect(countOf(result.stderr, BUILT)).toBe(0);
    expect(job.statistics.snapshot()).toMatchObject({
      nix: { hits: PATHS, narinfos: expect.any(Number), misses: { error: 0, timeout: 0 } },
      warnings: [],
    });
  });

  test("builds on without it when the server dies in the middle, and finds it again afterwards", async () => {
    await using proxy = await startFaultProxy(
      () => Number(new URL(server.url).port),
      () => ({
        after: {
          // One NAR and half of another.
          bytes: proxy.faults.size > 0 ? 0 : 600_000,
          towards: "client",
          kind: "reset",
        },
      }),
    );
    {
      await using job = await startNixJob(proxy.port);
      await using nix = await createJobNix(version, job);
      const result = await build(nix, expression);
      await forget();
      expect([result.status, result.stderr]).toEqual([0, expect.any(String)]);
      expect(countOf(result.stderr, BUILT)).toBeGreaterThan(0);
      expect(job.statistics.snapshot().warnings).toHaveLength(1);

      // The same user, whose Nix remembers on the disk; the next job has another address.
      await using later = await startNixJob();
      const again = await nix.run("nix-build", [
        "--no-out-link",
        "--expr",
        expression,
        "--option",
        "substituters",
        later.face.url,
      ]);
      await forget();
      expect([again.status, again.stderr]).toEqual([0, expect.any(String)]);
      expect(countOf(again.stderr, BUILT)).toBe(0);
    }
  });

  test("builds all of it when there is no server from the start", async () => {
    await using proxy = await startFaultProxy(
      () => 1,
      () => ({}),
    );
    await proxy.refuse();
    await using job = await startNixJob(proxy.port);
    await using nix = await createJobNix(version, job);
    const result = await build(nix, expression);
    await forget();
    expect([result.status, result.stderr]).toEqual([0, expect.any(String)]);
    expect(countOf(result.stderr, BUILT)).toBe(PATHS);
    expect(result.stderr).not.toMatch(/warning: (?!the group)/);
  });
});
