import { randomUUID } from "node:crypto";

import {
  type BazelVersion,
  type BazelWorkspace,
  createBazelWorkspace,
  createNixSandbox,
  findBazelVersions,
  findNixVersions,
  type NixSandbox,
} from "@glorious/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { useBazel } from "../../bazel/use-bazel.ts";
import {
  bazelJobEnv,
  type JobGrant,
  type MatrixJobOptions,
  type MatrixWorld,
  nixJobEnv,
  startMatrixWorld,
} from "./matrix-world.ts";

/** When the cache goes wrong, and how. */
type Situation = Pick<
  MatrixJobOptions,
  "faultAtStart" | "faultBeforeBuild" | "faultInBuild" | "losesToken"
> & { readonly isUntrusted?: boolean };

const SITUATIONS: Readonly<Record<string, Situation>> = {
  "is up": {},
  "is down before the start": { faultAtStart: "refuses" },
  "never answers from the start": { faultAtStart: "black hole" },
  "refuses connections": { faultBeforeBuild: "refuses" },
  "is a black hole": { faultBeforeBuild: "black hole" },
  "sends 1 B/s": { faultBeforeBuild: "1 B/s" },
  "dies in the build": { faultInBuild: "refuses" },
  "dies in uploads": { faultBeforeBuild: "cuts uploads" },
  "answers 401": { faultBeforeBuild: "401" },
  "answers 403": { faultBeforeBuild: "403" },
  "answers 429": { faultBeforeBuild: "429" },
  "answers 500": { faultBeforeBuild: "500" },
  "has another certificate": { isUntrusted: true },
  "cuts NARs short": { faultBeforeBuild: "truncated NAR" },
  "sends other bytes": { faultBeforeBuild: "wrong NAR bytes" },
  "no longer takes the token": { losesToken: true },
};

/** A build, by the tool that makes it and by whether the cache has its result. */
interface Kind {
  readonly title: string;
  readonly isCached: boolean;
  /** `undefined` where Nix builds. */
  readonly bazel?: BazelVersion | undefined;
}

const nix = findNixVersions().at(-1);
const bazels = findBazelVersions();
const newestBazel = bazels.at(-1);

const KINDS: readonly Kind[] = [
  { title: "Nix could substitute", isCached: true },
  { title: "Nix has to build", isCached: false },
  ...bazels.toReversed().flatMap((bazel) => {
    const name = bazel === newestBazel ? "Bazel" : `Bazel ${bazel.version}`;
    return [
      { title: `${name} hits`, isCached: true, bazel },
      { title: `${name} has to build`, isCached: false, bazel },
    ];
  }),
];
const GRANTS: readonly JobGrant[] = ["ready", "read-only"];

/** Why a cell cannot arise; Bazel has no NARs. */
function whyImpossible(situation: string, { bazel }: Kind): string | undefined {
  const isAboutNars = situation === "cuts NARs short" || situation === "sends other bytes";
  return isAboutNars && bazel !== undefined ? "Bazel reads no NARs" : undefined;
}

/** What runs every time: each kind of trouble with one kind of build. All of it runs with `pnpm test:long`. */
const SAMPLE: ReadonlySet<string> = new Set([
  "is up, Nix could substitute, ready",
  "is down before the start, Nix has to build, ready",
  "is a black hole, Nix could substitute, read-only",
  "dies in the build, Nix has to build, ready",
  "dies in uploads, Nix has to build, ready",
  "sends other bytes, Nix could substitute, ready",
  "no longer takes the token, Nix could substitute, ready",
  "has another certificate, Nix could substitute, ready",
  "answers 500, Bazel hits, ready",
  "is a black hole, Bazel has to build, ready",
  "dies in the build, Bazel 4.2.3 hits, ready",
  "is up, Bazel hits, ready, by the hooks",
  "is down before the start, Nix has to build, ready, by the hooks",
  "dies in uploads, Nix has to build, ready, by the hooks",
]);

/** Where the cache serves the build all the same, and how a build tells of that. */
const WORKING: ReadonlySet<string> = new Set(["is up", "no longer takes the token"]);
function hitOf({ isCached, bazel }: Kind): RegExp {
  if (!isCached) return /./;
  if (bazel !== undefined) return /1 remote cache hit/;
  return /copying path '.*-cell' from 'http:\/\/127\.0\.0\.1/;
}

/** Beyond it a build did not go on by itself; what each cell took is printed. */
const MOST_MS = 90_000;
const LARGE = "head -c 300000 /dev/urandom";

const isLong = process.env["GLORIOUS_LONG"] === "1";
const cells = Object.keys(SITUATIONS).flatMap((situation) =>
  KINDS.flatMap((kind) => [
    ...GRANTS.map((grant) => ({
      title: `${situation}, ${kind.title}, ${grant}`,
      ...{ situation, kind, grant, isHooked: false },
    })),
    // What follows the set-up is the same agent: one right and the newest tools tell enough of the hooks.
    ...(kind.bazel === undefined || kind.bazel === newestBazel
      ? [
          {
            title: `${situation}, ${kind.title}, ready, by the hooks`,
            ...{ situation, kind, grant: "ready" as const, isHooked: true },
          },
        ]
      : []),
  ]),
);
const chosen = cells.filter(({ title }) => isLong || SAMPLE.has(title));

let world: MatrixWorld;
let sandbox: NixSandbox | undefined;
const workspaces = new Map<BazelVersion, BazelWorkspace>();
const durations: string[] = [];

beforeAll(async () => {
  world = await startMatrixWorld();
  if (nix !== undefined) sandbox = await createNixSandbox(nix);
  for (const bazel of new Set(chosen.flatMap(({ kind }) => kind.bazel ?? []))) {
    workspaces.set(bazel, await createBazelWorkspace(bazel));
  }
}, 120_000);
afterAll(async () => {
  await sandbox?.[Symbol.asyncDispose]();
  for (const workspace of workspaces.values()) await workspace[Symbol.asyncDispose]();
  await world[Symbol.asyncDispose]();
  process.stdout.write(`${durations.join("\n")}\n`);
});

/** The variables and the script of a build of its own. */
async function prepare({
  isCached,
  bazel,
}: Kind): Promise<Pick<MatrixJobOptions, "env" | "build" | "inputs">> {
  const salt = randomUUID();
  const wait = `touch $BUILD_GATE; `;
  if (bazel === undefined) {
    if (sandbox === undefined) throw new Error("there is no Nix");
    const expression = `builtins.derivation { name = "cell"; system = builtins.currentSystem; builder = "/bin/sh"; PATH = "/usr/bin:/bin"; args = [ "-c" "${LARGE} > $out; echo >> $out; echo ${salt} >> $out" ]; }`;
    const words = ["--no-out-link", "--expr", expression];
    if (isCached) {
      const built = await sandbox.output("nix-build", words);
      await world.push(sandbox, built);
      await sandbox.output("nix-store", ["--delete", built]);
    }
    return {
      env: nixJobEnv(sandbox),
      inputs: { push: "auto" },
      build: `${wait}p=$(nix-build ${words.map((word) => `'${word}'`).join(" ")}) && tail -n 1 $p`,
    };
  }
  const workspace = workspaces.get(bazel);
  if (workspace === undefined) throw new Error("its workspace was not made");
  const BUILD = `genrule(name = "cell", outs = ["cell.txt"], cmd = "${LARGE} | base64 > $@; echo ${salt} >> $@")\n`;
  await workspace.write({ BUILD });
  await workspace.clean();
  if (isCached) {
    await useBazel(workspace, world.world.server, { view: "hub+main" });
    const first = await workspace.run(["build", "//:cell"]);
    expect(first.status, first.stderr).toBe(0);
    await useBazel(workspace, world.world.server, { view: "hub+main", args: ["--undo"] });
    await workspace.clean();
  }
  return {
    env: bazelJobEnv(workspace),
    inputs: { "bazel-version": workspace.bazel.version },
    build: `cd ${workspace.directory} && ${wait}bazel build //:cell && tail -n 1 bazel-bin/cell.txt`,
  };
}

describe("a build goes on whatever the cache does", () => {
  // Not $title, of which a report shows 40 characters.
  const named = chosen.map((cell) => [cell.title, cell] as const);
  test.for(named)("%s", async ([title, { situation, kind, grant, isHooked }], { skip }) => {
    const reason = whyImpossible(situation, kind);
    if (reason !== undefined) skip(reason);
    if (kind.bazel === undefined && nix === undefined) skip("no Nix is here");
    const { isUntrusted = false, ...faults } = SITUATIONS[situation] ?? {};
    await world.cache.become("up");
    const { env, inputs, build } = await prepare(kind);
    const action = kind.bazel === undefined ? "setup-attic" : "setup-bazel-cache";
    const job = await world.runJob({
      grant,
      door: isHooked ? "hooks" : action,
      env,
      inputs: {
        "drain-timeout": "5",
        ...inputs,
        ...(isUntrusted ? { "server-url": world.cache.untrustedUrl } : {}),
      },
      build,
      ...faults,
    });
    const isDown = faults.faultAtStart !== undefined || isUntrusted;
    const log = job.result.steps.map((step) => step.log).join("\n");
    durations.push(
      `${title}: set-up ${Math.round(job.setup.durationMs)} ms, build ${Math.round(job.build.durationMs)} ms, end ${Math.round(job.result.steps.at(-1)?.durationMs ?? 0)} ms`,
    );
    expect(job.result.conclusion, log).toBe("success");
    expect(job.status, log).toBe(isDown ? "degraded" : grant);
    if (WORKING.has(situation)) expect(job.build.log).toMatch(hitOf(kind));
    const warnings = job.result.steps.flatMap(({ annotations }) => annotations);
    expect(warnings.length, log).toBeLessThanOrEqual(1);
    expect(job.build.durationMs).toBeLessThan(MOST_MS);
    const { temp, home } = job.result.leftovers;
    // What the tools keep for themselves is theirs.
    const ours = home.filter((file) => !file.startsWith(".cache/"));
    expect({ temp, home: ours }).toEqual({ temp: [], home: [] });
  });
});

/** Those that the agent sets right, so that nothing was amiss for the job. */
const HEALED: ReadonlySet<string> = new Set(["is up", "no longer takes the token"]);
const strict = Object.keys(SITUATIONS).filter(
  (situation) => isLong || situation === "answers 500" || situation === "is down before the start",
);

describe.skipIf(nix === undefined)("with fail-on-error a job fails, and says why", () => {
  test.for(strict)("the cache %s", async (situation) => {
    const { isUntrusted = false, ...faults } = SITUATIONS[situation] ?? {};
    await world.cache.become("up");
    const isCached = situation !== "dies in uploads";
    const { env, inputs, build } = await prepare({ title: situation, isCached });
    const job = await world.runJob({
      grant: "ready",
      door: "setup-attic",
      env,
      inputs: {
        "drain-timeout": "5",
        "fail-on-error": "true",
        ...inputs,
        ...(isUntrusted ? { "server-url": world.cache.untrustedUrl } : {}),
      },
      build,
      ...faults,
    });
    const log = job.result.steps.map((step) => step.log).join("\n");
    expect(job.result.conclusion, log).toBe(HEALED.has(situation) ? "success" : "failure");
    const reasons = job.result.steps
      .flatMap(({ annotations }) => annotations)
      .filter(({ level, message }) => level === "error" && message.startsWith("fail-on-error"));
    expect(reasons.length, log).toBe(HEALED.has(situation) ? 0 : 1);
  });
});
