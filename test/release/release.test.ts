import { createHash, randomUUID } from "node:crypto";
import { appendFile, readdir, readFile, rm, symlink } from "node:fs/promises";
import path from "node:path";

import { checkPackage, createPackageFromTarballData } from "@arethetypeswrong/core";
import {
  createNixSandbox,
  createTemporaryDirectory,
  describeWithAct,
  findBazelVersions,
  findNixVersions,
  findOlderNode,
  runCommand,
  startFlywheel,
  startIdentityWorld,
} from "@glorious/testkit";
import { publint } from "publint";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse } from "yaml";

import { createExample, logOf, RUNS, startRunner, TENANTS } from "../actions/example-job.ts";
import { builtBy, commitAll, runAct } from "../actions/run-act.ts";
import { IS_LONG } from "../faults/scale.ts";
import { JOBS, TENANTS as GITLAB_TENANTS } from "../gitlab/gitlab-jobs.ts";
import { createCatalogPipeline, createPipeline } from "../gitlab/pipeline.ts";
import { createEmptyProject, type EmptyProject } from "./empty-project.ts";
import { startLocalRegistry } from "./local-registry.ts";
import {
  bumpToFirstMajor,
  cloneReleaseCheckout,
  createReleaseCheckout,
  type ReleaseCheckout,
} from "./release-checkout.ts";

const PACKAGES = [
  "action-emulator",
  "cache-client",
  "cache-server",
  "cli",
  "core",
  "grpc",
  "nix-store",
  "reapi",
  "runner-agent",
  "storage",
  "trust",
] as const;
/** Each published action: its example, and what the job that fills the cache and the next one say. */
const TRIED = [
  ["setup-attic", "nix", [/\| Pushed \| 2 paths/], [/\| Nix \| 2 paths from the cache/]],
  ["setup-bazel-cache", "bazel", [/\| Bazel \| 0 of 2 actions/], [/\| Bazel \| 2 of 2 actions/]],
  [
    ...(["setup-flywheel", "both"] as const),
    [/\| Pushed \| 2 paths/, /\| Bazel \| 0 of 2 actions/],
    [/\| Nix \| 2 paths from the cache/, /\| Bazel \| 2 of 2 actions/],
  ],
] as const;
const NODE = path.dirname(process.execPath);
const nix = findNixVersions().at(-1);
const bazel = findBazelVersions().at(-1);
const olderNode = findOlderNode(22);

describe("a release", () => {
  const opened = new AsyncDisposableStack();
  let checkout: ReleaseCheckout;
  let assets: string;
  let project: EmptyProject;

  const release = (...more: readonly string[]): ReturnType<ReleaseCheckout["run"]> =>
    checkout.run("pnpm", ["release:assemble", "--out", checkout.out, ...more]);

  beforeAll(async () => {
    checkout = opened.use(await createReleaseCheckout());
    await bumpToFirstMajor(checkout);
    await checkout.output("pnpm", [
      "release:assemble",
      "--out",
      checkout.out,
      "--version",
      "1.0.0",
    ]);
    assets = path.join(checkout.out, "assets", "1.0.0");
    const registry = opened.use(await startLocalRegistry(assets));
    project = opened.use(await createEmptyProject(registry.url));
    await project.install([
      ...PACKAGES.map((name) => `@glorious/${name}`),
      ...["@bufbuild/protobuf", "@types/node"],
    ]);
  }, 600_000);
  afterAll(() => opened.disposeAsync());

  test("every public package is packed, and nothing that is private", async () => {
    const packed = (await readdir(assets)).filter((name) => name.endsWith(".tgz"));
    expect(packed).toEqual(PACKAGES.map((name) => `glorious-${name}-1.0.0.tgz`));
  });

  test.each(PACKAGES)("%s is as a registry wants it: publint, types, manifest", async (name) => {
    const bytes = await readFile(path.join(assets, `glorious-${name}-1.0.0.tgz`));
    const tarball = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
    const { messages } = await publint({ pack: { tarball }, strict: true });
    expect(messages).toEqual([]);

    const analysis = await checkPackage(createPackageFromTarballData(new Uint8Array(bytes)));
    expect(analysis.types).not.toBe(false);
    // Modules alone: what CommonJS finds does not count.
    const problems = "problems" in analysis ? analysis.problems : [];
    const counted = problems.filter(
      (problem) => !/"(?:node10|node16-cjs)"/.test(JSON.stringify(problem)),
    );
    expect(counted).toEqual([]);

    const installed = path.join(project.directory, "node_modules", "@glorious", name);
    const manifest = await readFile(path.join(installed, "package.json"), "utf8");
    expect(manifest).not.toMatch(/workspace:|catalog:|"source"/);
    expect(await readdir(installed)).toEqual(
      expect.arrayContaining(["LICENSE", "README.md", "dist", "package.json"]),
    );
  });

  test("every README's example has right types where the packages are installed", async () => {
    const files = await Promise.all(
      PACKAGES.map((name) => project.pasteExample(`@glorious/${name}`)),
    );
    const { status, stdout } = await project.checkTypes(files);
    expect([status, stdout]).toEqual([0, ""]);
  });

  test.each([
    ["action-emulator", /^success \{.*greeting: 'Hello world'/],
    ["cache-server", /^http:\/\/127\.0\.0\.1:\d+\/main main-\w+:/],
    ["cli", /^1\.0\.0\n$/],
    ["core", /^67108864 64 MiB\nNo such path in main \(Push it first\)\n$/],
    ["grpc", /^hello\ntrue\n$/],
    ["nix-store", /^\{"root":\{"entries":\{"hello"/],
    ["reapi", /^main 2 [0-9a-f]{64}\n$/],
    ["runner-agent", /^disabled /],
    ["storage", /^hell$/],
    ["trust", /pull/],
  ] as const)("the example of %s does what its README says", async (name, expected) => {
    const file = await project.pasteExample(`@glorious/${name}`);
    const { status, stdout, stderr } = await project.run(process.execPath, [file]);
    expect([status, stdout], stderr).toEqual([0, expect.stringMatching(expected)]);
  });

  test("npx runs the command", async () => {
    const help = await project.run("npx", ["flywheel", "--help"]);
    expect([help.status, help.stdout]).toEqual([0, expect.stringContaining("flywheel COMMAND")]);
  });

  const packedClient = (): string =>
    path.join(project.directory, "node_modules", "@glorious", "cli", "dist", "flywheel.mjs");
  const launcher = (): string => path.join(project.directory, "node_modules", ".bin", "flywheel");

  test("the packed server has the packed client, for CI jobs whose image has none", async () => {
    const bundle = await readFile(packedClient());
    const sha256 = createHash("sha256").update(bundle).digest("hex");
    await using server = await startFlywheel({ launcher: launcher() });
    const response = await fetch(`${server.url}/_flywheel/v1/client/${sha256}/flywheel.mjs`);
    expect(response.status).toBe(200);
    expect(Buffer.from(await response.arrayBuffer()).equals(bundle)).toBe(true);
  });

  /** What the catalog's project holds at its tag. */
  async function checkOutCatalog(parent: string): Promise<string> {
    const tree = path.join(parent, "flywheel");
    const clone = ["clone", "--quiet", "--branch", "1.0.0", published("gitlab", "flywheel"), tree];
    await checkout.output("git", clone);
    return tree;
  }

  test("the pipeline of the catalog's project passes at its tag, and makes the release", async () => {
    await using folder = await createTemporaryDirectory("flywheel-catalog-");
    const tree = await checkOutCatalog(folder.path);
    await using catalog = await createCatalogPipeline({ tree, version: "1.0.0" });
    const { status, stdout, stderr } = await catalog.run([], {
      env: { PATH: `${NODE}:/usr/bin:/bin`, HOME: folder.path },
      variables: { CI_COMMIT_TAG: "1.0.0" },
    });
    expect([status, stdout], stderr).toEqual([0, expect.stringMatching(/PASS +release/)]);
  });

  test.each(["1.0.0", "1.0", "1"])(
    "a job that includes the catalog's component at %s gets its client from the packed server, and the cache",
    async (version) => {
      await using folder = await createTemporaryDirectory("flywheel-catalog-");
      const tree = await checkOutCatalog(folder.path);
      const text = `
include:
  - component: $CI_SERVER_FQDN/glorious/flywheel/bazel@${version}
    inputs: { bazel-version: "8.0.0", bazelrc: file }
build:
  extends: .flywheel-bazel
  script: echo "the cache is $FLYWHEEL_STATUS"
`;
      const catalog = { tree, version: "1.0.0" };
      await using site = await createPipeline("bazel", { ".gitlab-ci.yml": text }, catalog);
      await using world = await startIdentityWorld({
        tenants: GITLAB_TENANTS,
        launcher: launcher(),
      });
      const { status, stdout, stderr } = await site.run(["build"], {
        env: { PATH: `${NODE}:/usr/bin:/bin`, HOME: folder.path },
        variables: {
          FLYWHEEL_SERVER: world.server.url,
          ...world.jobEnvironment("gitlab", JOBS.main),
        },
      });
      expect([status, stdout], stderr).toEqual([0, expect.stringContaining("the cache is ready")]);
    },
  );

  test("the catalog's components pin the client that the packed server has", async () => {
    const bundle = await readFile(packedClient());
    const sha256 = createHash("sha256").update(bundle).digest("hex");
    const show = (file: string): Promise<string> =>
      checkout.output("git", [
        `--git-dir=${published("gitlab", "flywheel")}`,
        "show",
        `1.0.0:${file}`,
      ]);
    for (const name of ["attic", "bazel"]) {
      expect(await show(`templates/${name}.yml`)).toContain(` ${sha256} `);
    }
    const pipeline = parse(await show(".gitlab-ci.yml"), { logLevel: "error" }) as Record<
      string,
      object
    >;
    expect(pipeline["release"]).toMatchObject({ release: { tag_name: "$CI_COMMIT_TAG" } });
  });

  test.skipIf(nix === undefined)("the example of cache-client pushes what Nix built", async () => {
    if (nix === undefined) return;
    await using sandbox = await createNixSandbox(nix);
    await using server = await startFlywheel({ launcher: launcher() });
    const built = await sandbox.buildPath(`mkPath { name = "hi"; script = "echo hi > $out"; }`);
    await symlink(built, path.join(project.directory, "result"));
    const file = await project.pasteExample("@glorious/cache-client");
    const env = { ...sandbox.env, SERVER: server.url, TOKEN_FILE: server.tokenFile };
    const { stdout, stderr } = await project.run(process.execPath, [file], env);
    expect(stdout, stderr).toContain("1 uploaded, 0 already there\n");
  });

  test.skipIf(!("node" in olderNode))("the command runs on Node 22 as well", async () => {
    if (!("node" in olderNode)) return;
    const bin = path.join("node_modules", ".bin", "flywheel");
    const { status, stdout, stderr } = await project.run(olderNode.node, [bin, "--help"]);
    expect([status, stdout], stderr).toEqual([0, expect.stringContaining("flywheel COMMAND")]);
  });

  test("its checksums hold", async () => {
    const { status } = await runCommand("sha256sum", ["--check", "SHA256SUMS"], { cwd: assets });
    expect(status).toBe(0);
  });

  test.each(IS_LONG ? ["another checkout"] : [])(
    "%s gives the very same bytes, the packages' too",
    async () => {
      await using other = await cloneReleaseCheckout(checkout);
      await other.output("pnpm", ["release:assemble", "--out", other.out, "--version", "1.0.0"]);
      const sums = await readFile(path.join(assets, "SHA256SUMS"), "utf8");
      const statement = await readFile(path.join(assets, "provenance.intoto.json"), "utf8");
      const theirs = path.join(other.out, "assets", "1.0.0");
      expect(await readFile(path.join(theirs, "SHA256SUMS"), "utf8")).toBe(sums);
      expect(await readFile(path.join(theirs, "provenance.intoto.json"), "utf8")).toBe(statement);
    },
    600_000,
  );

  test("what cannot be released is refused with the reason, and nothing is written", async () => {
    const bundle = path.join(checkout.root, "actions", "setup-attic", "dist", "main.mjs");
    const refusals: Array<readonly [number, string]> = [];
    const attempt = async (...args: readonly string[]): Promise<void> => {
      const { status, stderr } = await release(...args);
      refusals.push([status, /release: .*/.exec(stderr)?.[0] ?? stderr]);
    };
    await attempt("--version", "v1");
    await attempt("--version", "1.0.1");
    await attempt("--version", "1.0.0");
    await appendFile(bundle, "// changed\n");
    await attempt("--version", "1.0.0");
    await checkout.commitAll("a bundle that nothing makes");
    await attempt("--version", "1.0.0");
    expect(refusals).toEqual([
      [1, expect.stringContaining(`"v1" is no version`)],
      [1, expect.stringContaining("@glorious/action-emulator is 1.0.0, the release is 1.0.1")],
      [1, expect.stringMatching(/setup-attic \(github\) has v1\.0\.0 already \(\w+\)/)],
      [1, expect.stringContaining("Not as it was committed: actions/setup-attic/dist/main.mjs")],
      [1, expect.stringContaining("The actions' bundles are not what the sources make")],
    ]);
    expect(await readdir(path.join(checkout.out, "assets"))).toEqual(["1.0.0"]);
  }, 600_000);

  const published = (forge: string, name: string = "setup-attic"): string =>
    path.join(checkout.out, "repositories", forge, "glorious", `${name}.git`);

  test("a published page says where the sources are: at the tag, and what it calls its own is in its tree", async () => {
    const repositories = [
      ...TRIED.map(([name]) => published("github", name)),
      ...TRIED.map(([name]) => published("forgejo", name)),
      published("gitlab", "flywheel"),
    ];
    for (const repository of repositories) {
      const git = (...words: readonly string[]): Promise<string> =>
        checkout.output("git", [`--git-dir=${repository}`, ...words]);
      const files = (await git("ls-tree", "-r", "--name-only", "HEAD")).split("\n");
      const readme = await git("show", "HEAD:README.md");

      const links = [...readme.matchAll(/\]\((?!https?:|#)([^)#]+)/g)].map(([, link]) => link);
      expect([repository, links.filter((link = "") => !files.includes(link))]).toEqual([
        repository,
        [],
      ]);
      const sources = "https://github.com/glorious/flywheel/tree/v1.0.0/";
      const own = repository.includes("gitlab") ? "scripts/gitlab-components" : "actions/setup-";
      expect(readme).toContain(`${sources}${own}`);
    }
  });

  test("every action that the release has is tried out of its repository below", async () => {
    for (const forge of ["github", "forgejo"]) {
      const there = await readdir(path.join(checkout.out, "repositories", forge, "glorious"));
      expect(there).toEqual(TRIED.map(([action]) => `${action}.git`));
    }
  });

  describeWithAct("`uses: glorious/<action>@v1` out of its repository", (act) => {
    test.skipIf(nix === undefined || bazel === undefined).for(TRIED)(
      "%s: act fills the cache from the tag's tree; a Forgejo runner takes all from it, by full address",
      async ([name, example, filled, taken]) => {
        if (nix === undefined || bazel === undefined) return;
        await using world = await startIdentityWorld({ tenants: TENANTS });
        await using folder = await createTemporaryDirectory("flywheel-act-");
        const action = path.join(folder.path, name);
        const clone = ["clone", "--quiet", "--branch", "v1", published("github", name), action];
        await checkout.output("git", clone);
        await using repository = await createExample(example, randomUUID());
        await using cold = await startRunner({ nix, bazel }, world);
        await cold.prepare(repository.directory);
        await commitAll(repository);

        const first = await runAct(cold, repository, { act, world, name, action });

        expect(first.status, first.stdout + first.stderr).toBe(0);
        for (const line of filled) expect(first.stdout).toMatch(line);
        const built = await builtBy(cold, first);
        // Its work tree holds the link that keeps what was built.
        await rm(path.join(cold.sandbox.home, ".cache", "act"), { recursive: true, force: true });
        if (built.length > 0) await cold.forget(built);

        await using fresh = await startRunner({ nix, bazel }, world);
        const second = await fresh.run(repository, {
          claims: RUNS.main,
          forge: ".forgejo",
          flavour: "forgejo",
          actions: { [`https://forge.example.org/glorious/${name}`]: published("forgejo", name) },
        });
        expect(second.conclusion, logOf(second)).toBe("success");
        expect(logOf(second)).not.toMatch(/building '/);
        for (const line of taken) expect(second.summary).toMatch(line);
        if (built.length > 0) await fresh.forget(built);
      },
    );
  });
});
