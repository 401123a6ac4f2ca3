import { createHash, randomUUID } from "node:crypto";
import { once } from "node:events";
import { rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";

import {
  findBazelVersions,
  findNixVersions,
  type IdentityWorld,
  startIdentityWorld,
} from "@glorious/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { startOldCacheService } from "./cache-service-v1.ts";
import { startCacheService } from "./cache-service.ts";
import {
  createJob,
  createJobOf,
  FORGEJO_MAIN,
  leaksOf,
  logOf,
  RUNS,
  startRunner,
  TENANTS,
} from "./example-job.ts";

const nix = findNixVersions().at(-1);
const bazel = findBazelVersions().at(-1);
const SETUP = "uses: glorious/setup-attic@v1\n        with: { keep-evaluation: true }";
const FORGEJO = { flavour: "forgejo", forge: ".forgejo", issuer: "forgejo" } as const;
/** What there is, and what a job that finds its key asks it. */
const SERVICES = [
  [
    "GitHub's",
    { start: startCacheService, found: ["GetCacheEntryDownloadURL"], claims: RUNS.main },
  ],
  [
    "the older one, of Forgejo",
    {
      start: startOldCacheService,
      found: ["find", "download"],
      claims: FORGEJO_MAIN,
      ...FORGEJO,
    },
  ],
] as const;
const FILE = '"$XDG_CACHE_HOME/nix/eval-cache-v6/kept"';

describe.skipIf(nix === undefined)("what the forge's own cache keeps on demand", () => {
  let world: IdentityWorld;
  beforeAll(async () => {
    world = await startIdentityWorld({ tenants: TENANTS });
  });
  afterAll(() => world[Symbol.asyncDispose]());

  test.for(SERVICES)(
    "is saved by a trusted job, restored by the next one, and not saved again under the same key: %s",
    async ([, { start, found, ...runner }]) => {
      if (nix === undefined) return;
      await using service = await start();
      await using machine = await startRunner({ nix }, world);
      const caches = path.join(machine.sandbox.home, ".cache");
      const options = { ...runner, actionEnv: service.env };
      await using writing = await createJob(
        SETUP,
        `run: mkdir -p ${path.posix.dirname(FILE)}" && echo evaluated > ${FILE}`,
      );

      const first = await machine.run(writing, options);

      expect(first.conclusion, logOf(first)).toBe("success");
      expect(service.keys(), logOf(first)).toEqual([expect.stringMatching(/^flywheel-nix-linux-/)]);
      await rm(caches, { recursive: true, force: true });
      const calls = service.calls.length;
      await using reading = await createJob(SETUP, `run: cat ${FILE}`);
      const second = await machine.run(reading, options);
      expect(second.conclusion, logOf(second)).toBe("success");
      expect(logOf(second)).toContain("evaluated\n");
      expect(service.calls.slice(calls)).toEqual(found);
      expect(leaksOf(second)).toEqual([]);
    },
  );

  test.skipIf(bazel === undefined)(
    "of Bazel is what it fetched: the next trusted job builds though its origin is gone",
    async () => {
      if (nix === undefined || bazel === undefined) return;
      await using service = await startCacheService();
      await using origin = await startOrigin();
      await using repository = await createJobOf("bazel", [
        "run: sh declare.sh && bazel clean --expunge",
        "uses: glorious/setup-bazel-cache@v1\n        with: { keep-repositories: true }",
        "run: bazel build //:fetched && cat bazel-bin/fetched.txt",
      ]);
      await writeFile(path.join(repository.directory, "declare.sh"), origin.declaration);
      const options = { claims: RUNS.main, actionEnv: service.env, env: { USER: "tester" } };
      await using runner = await startRunner({ nix, bazel }, world);

      const first = await runner.run(repository, options);

      expect(first.conclusion, logOf(first)).toBe("success");
      expect(logOf(first)).toContain(origin.content);
      expect(service.keys(), logOf(first)).toEqual([
        expect.stringMatching(/^flywheel-bazel-linux-/),
      ]);
      await origin[Symbol.asyncDispose]();
      await rm(path.join(runner.sandbox.home, ".cache/bazel"), { recursive: true, force: true });
      const second = await runner.run(repository, options);
      expect(second.conclusion, logOf(second)).toBe("success");
      expect(logOf(second)).toContain(origin.content);
      expect(origin.asked()).toBe(1);
      expect(leaksOf(second)).toEqual([]);
    },
  );

  test("is neither read nor written by a job that is not trusted, nor without being asked for", async () => {
    if (nix === undefined) return;
    await using service = await startCacheService();
    await using runner = await startRunner({ nix }, world);
    const actionEnv = service.env;
    await using asking = await createJob(SETUP);
    await using plain = await createJob("uses: glorious/setup-attic@v1");
    for (const [repository, claims] of [
      [asking, RUNS.fork],
      [asking, RUNS.review],
      [plain, RUNS.main],
    ] as const) {
      const job = await runner.run(repository, { claims, actionEnv });
      expect(job.conclusion, logOf(job)).toBe("success");
    }
    expect(service.calls).toEqual([]);
  });

  test("fails no job when the forge has no cache service, or it is broken", async () => {
    if (nix === undefined) return;
    await using runner = await startRunner({ nix }, world);
    await using repository = await createJob(SETUP);
    const broken = {
      ACTIONS_RESULTS_URL: "http://127.0.0.1:1/",
      ACTIONS_CACHE_SERVICE_V2: "true",
      ACTIONS_RUNTIME_TOKEN: "x.e30.x",
    };
    const older = { ACTIONS_CACHE_URL: "http://127.0.0.1:1/", ACTIONS_RUNTIME_TOKEN: "x" };
    const onForgejo = { claims: FORGEJO_MAIN, ...FORGEJO };
    for (const options of [
      { claims: RUNS.main, actionEnv: {} },
      { claims: RUNS.main, actionEnv: broken },
      { ...onForgejo, actionEnv: {} },
      { ...onForgejo, actionEnv: older },
    ]) {
      const job = await runner.run(repository, options);
      expect(job.conclusion, logOf(job)).toBe("success");
      expect(
        job.steps
          .flatMap(({ annotations }) => annotations)
          .filter(({ level }) => level === "error"),
      ).toEqual([]);
    }
  });
});

interface Origin extends AsyncDisposable {
  readonly content: string;
  /** A script that makes a workspace depend on a file there, by its hash. */
  readonly declaration: string;
  /** How often the file was fetched. */
  asked(): number;
}

/** A server of somebody else's, from which Bazel fetches a file. */
async function startOrigin(): Promise<Origin> {
  const content = randomUUID();
  let asked = 0;
  const server = createServer((_, response) => {
    asked += 1;
    response.end(content);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/data`;
  const sha256 = createHash("sha256").update(content).digest("hex");
  return {
    content,
    asked: () => asked,
    declaration: `cat >>MODULE.bazel <<'END'
http_file = use_repo_rule("@bazel_tools//tools/build_defs/repo:http.bzl", "http_file")
http_file(name = "data", sha256 = "${sha256}", url = "${url}")
END
cat >>BUILD.bazel <<'END'
genrule(name = "fetched", srcs = ["@data//file"], outs = ["fetched.txt"], cmd = "cp $< $@")
END
`,
    async [Symbol.asyncDispose]() {
      if (!server.listening) return;
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}
