import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { findLeaks, type JobResult, runJob } from "@glorious/action-emulator";
import {
  type BazelWorkspace,
  createTemporaryDirectory,
  githubClaims,
  type IdentityWorld,
  type NixSandbox,
  runCommand,
  startIdentityWorld,
} from "@glorious/testkit";
import { expect, vi } from "vitest";

import { hookMachine } from "../../hooks/hooked-runner.ts";
import { type CacheFault, type FaultyCache, startFaultyCache } from "./faulty-cache.ts";

/** What the server gives to a job. */
export type JobGrant = "ready" | "read-only";

/** A cache that jobs reach by an address behind which anything may happen, and the forge that they run on. */
export interface MatrixWorld extends AsyncDisposable {
  readonly world: IdentityWorld;
  readonly cache: FaultyCache;
  /** Puts a built path into the cache, as somebody else's job did. */
  push(sandbox: NixSandbox, storePath: string): Promise<void>;
  runJob(options: MatrixJobOptions): Promise<MatrixJob>;
}

/** A job of three steps: the set-up, a pause in which the cache may change, and a build. */
export interface MatrixJobOptions {
  readonly grant: JobGrant;
  /** One of our actions, or the hooks of the runner, which take no inputs. */
  readonly door: "setup-attic" | "setup-bazel-cache" | "hooks";
  readonly inputs?: Readonly<Record<string, string>>;
  readonly env: Readonly<Record<string, string>>;
  readonly build: string;
  /** What the cache is from the beginning. */
  readonly faultAtStart?: CacheFault;
  /** What it becomes between the set-up and the build. */
  readonly faultBeforeBuild?: CacheFault;
  /** Whether the job's token is revoked between the two. */
  readonly losesToken?: boolean;
  /** What it becomes when the build has written the file named by `BUILD_GATE`, which then gets its `.open`. */
  readonly faultInBuild?: CacheFault;
}

/** What came of it. */
export interface MatrixJob {
  readonly result: JobResult;
  readonly setup: JobResult["steps"][number];
  /** The set-up's. */
  readonly status: string | undefined;
  readonly build: JobResult["steps"][number];
}

const LAUNCHER = fileURLToPath(new URL("../../../bin/flywheel", import.meta.url));
const ACTIONS = fileURLToPath(new URL("../../../actions", import.meta.url));
const PROJECT = { owner: "acme", ownerId: 1001, repository: "acme/site", repositoryId: 2001 };

export async function startMatrixWorld(): Promise<MatrixWorld> {
  await using resources = new AsyncDisposableStack();
  const serverPort = await findFreePort();
  const cache = resources.use(await startFaultyCache(() => serverPort));
  const world = resources.use(
    await startIdentityWorld({
      tenants: {
        hub: {
          views: { main: {} },
          scopes: [
            {
              issuer: "github",
              repository: { id: "2001" },
              trusted: { refs: ["refs/heads/main"] },
              untrusted: "read",
            },
          ],
        },
      },
      listen: `127.0.0.1:${serverPort}`,
      env: { FLYWHEEL_PUBLIC_URL: cache.url },
    }),
  );
  world.issuers.github.audience = cache.url;
  const owned = resources.move();
  return {
    world,
    cache,
    async push(sandbox, storePath) {
      const { server } = world;
      const target = ["--server", server.url, "--token-file", server.tokenFile];
      const words = ["push", storePath, "--view", "hub+main", ...target];
      const pushed = await runCommand(LAUNCHER, words, { env: sandbox.env });
      expect(pushed.status, pushed.stderr).toBe(0);
    },
    runJob: (options) => runMatrixJob(world, cache, options),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function findFreePort(): Promise<number> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

async function runMatrixJob(
  world: IdentityWorld,
  cache: FaultyCache,
  options: MatrixJobOptions,
): Promise<MatrixJob> {
  await using runner = await createTemporaryDirectory("flywheel-matrix-");
  const gate = path.join(runner.path, "gate");
  const buildGate = path.join(runner.path, "build-gate");
  await mkdir(path.join(runner.path, "work"), { recursive: true });
  const claims = githubClaims(
    options.grant === "ready" ? PROJECT : { ...PROJECT, event: "pull_request_target" },
  );
  const forge = world.jobEnvironment("github", claims);
  const requestUrl = forge["ACTIONS_ID_TOKEN_REQUEST_URL"] ?? "";
  const requestToken = forge["ACTIONS_ID_TOKEN_REQUEST_TOKEN"] ?? "";
  await cache.become(options.faultAtStart ?? "up");
  const env = { PATH: process.env["PATH"] ?? "", ...options.env };
  const { "server-url": server = cache.url } = options.inputs ?? {};
  const hooked =
    options.door === "hooks" ? await hookMachine(runner.path, server, env["PATH"]) : undefined;
  const running = runJob({
    directory: runner.path,
    env: { ...env, ...hooked?.env, FLYWHEEL_DRAIN_SECONDS: "5" },
    hooks: hooked?.hooks,
    jobEnv: { BUILD_GATE: buildGate },
    identity: { requestUrl, requestToken },
    steps: [
      ...(hooked === undefined
        ? [
            {
              uses: path.join(ACTIONS, options.door),
              id: "setup",
              with: { "server-url": server, ...options.inputs },
            },
          ]
        : []),
      { run: `touch ${gate}; until [ -e ${gate}.open ]; do sleep 0.05; done`, shell: "sh" },
      { run: options.build, id: "build", shell: "sh" },
    ],
  });
  const isOver = running.then(
    () => true,
    () => true,
  );
  await passGate(gate, isOver, async () => {
    if (options.losesToken === true) await revokeTokens(world, path.join(runner.path, "temp"));
    if (options.faultBeforeBuild !== undefined) await cache.become(options.faultBeforeBuild);
  });
  const { faultInBuild } = options;
  if (faultInBuild !== undefined)
    await passGate(buildGate, isOver, () => cache.become(faultInBuild));
  const result = await running;
  const [setup, , build] = result.steps;
  if (setup === undefined || build === undefined) throw new Error("the job has no such steps");
  expect(findLeaks(result, [requestToken])).toEqual([]);
  const status = setup.outputs["status"] ?? result.env["FLYWHEEL_STATUS"];
  return { result, setup, status, build };
}

/** Waits until the job stands at a gate, changes something, and opens the gate. */
async function passGate(
  gate: string,
  isOver: Promise<boolean>,
  change: () => Promise<void>,
): Promise<void> {
  let over = false;
  void isOver.then(() => (over = true));
  await vi.waitUntil(() => over || existsSync(gate), { timeout: 120_000, interval: 20 });
  await change();
  await writeFile(`${gate}.open`, "");
}

/** Takes the tokens of the sessions in a folder away. */
async function revokeTokens({ server }: IdentityWorld, temporary: string): Promise<void> {
  const target = ["--server", server.url, "--token-file", server.tokenFile];
  for (const name of await readdir(temporary)) {
    const tokenFile = path.join(temporary, name, "token");
    if (!existsSync(tokenFile)) continue;
    const words = ["token", "revoke", "--token-to-revoke", tokenFile, ...target];
    const { status, stderr } = await runCommand(LAUNCHER, words);
    expect({ status, stderr }).toMatchObject({ status: 0 });
  }
}

/** The variables of a job whose Nix is the sandbox's. */
export function nixJobEnv(sandbox: NixSandbox): Record<string, string> {
  const { NIX_USER_CONF_FILES: _, HOME: __, ...env } = sandbox.env;
  return Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith("XDG_")));
}

/** The same of one whose Bazel is the workspace's. */
export function bazelJobEnv(workspace: BazelWorkspace): Record<string, string> {
  return { PATH: [workspace.commandDirectory, process.env["PATH"]].join(path.delimiter) };
}
