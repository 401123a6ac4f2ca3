import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

import type { Claims } from "../claim-sets.ts";
import { type CommandResult, runCommand } from "../run-command.ts";
import { type RunningFlywheel, startFlywheel } from "../start-flywheel.ts";
import { createTemporaryDirectory } from "../temporary-directory.ts";
import { startIssuer, type TestIssuer } from "./start-issuer.ts";

/** A forge whose jobs get identity tokens. */
export type TestForge = "github" | "gitlab" | "forgejo";

/** Every test forge. */
export const TEST_FORGES: readonly TestForge[] = ["github", "gitlab", "forgejo"];

/** The `iss` of the cluster whose runners the world knows; nobody answers there. */
export const CLUSTER_ISSUER = "https://kubernetes.default.svc.cluster.local";

/** A server of ours in a process, with a trust policy and the forges that it names. */
export interface IdentityWorld extends AsyncDisposable {
  /** The one that runs now. */
  readonly server: RunningFlywheel;
  readonly issuers: Readonly<Record<TestForge | "cluster", TestIssuer>>;
  /** What the forge puts into the environment of a job with these claims. */
  jobEnvironment(forge: TestForge, claims: Claims): Record<string, string>;
  /** Stops the server and starts it anew on the same data and the same address. */
  restart(env?: Readonly<Record<string, string>>): Promise<void>;
}

/** How to start a world. */
export interface IdentityWorldOptions {
  /** The policy's `tenants`; issuers are called `github`, `gitlab`, `forgejo` and `cluster`. */
  readonly tenants: Readonly<Record<string, unknown>>;
  /** The policy's `sharedViews`. */
  readonly sharedViews?: Readonly<Record<string, unknown>>;
  /** The address to listen on; default `127.0.0.1:0`, a free port. */
  readonly listen?: string;
  /** Further variables of the server. */
  readonly env?: Readonly<Record<string, string>>;
  /** The command that starts the server; default: this checkout's. */
  readonly launcher?: string;
}

/** Starts the forges and a server whose policy knows them. */
export async function startIdentityWorld(options: IdentityWorldOptions): Promise<IdentityWorld> {
  await using opened = new AsyncDisposableStack();
  const directory = opened.use(await createTemporaryDirectory("flywheel-world-")).path;
  const [github, gitlab, forgejo, cluster] = [
    opened.use(await startIssuer()),
    opened.use(await startIssuer()),
    opened.use(await startIssuer({ path: "/api/actions" })),
    opened.use(await startIssuer()),
  ];
  const issuers = { github, gitlab, forgejo, cluster };
  await writeFile(path.join(directory, "cluster.json"), cluster.keySetText());
  const policy = path.join(directory, "policy.json");
  const { tenants, sharedViews } = options;
  const policyIssuers = {
    github: { kind: "github", issuer: github.issuer },
    gitlab: { kind: "gitlab", issuer: gitlab.issuer },
    forgejo: { kind: "forgejo", issuer: forgejo.issuer },
    cluster: { kind: "kubernetes", issuer: CLUSTER_ISSUER, jwksFile: "cluster.json" },
  };
  await writeFile(
    policy,
    JSON.stringify({ version: 1, issuers: policyIssuers, tenants, sharedViews }),
  );
  const start = (env: Readonly<Record<string, string>>, listen: string): Promise<RunningFlywheel> =>
    startFlywheel({
      dataDirectory: path.join(directory, "data"),
      listen,
      launcher: options.launcher,
      env: { ...options.env, ...env, FLYWHEEL_TRUST_POLICY_FILE: policy },
    });
  let server = await start({}, options.listen ?? "127.0.0.1:0");
  opened.defer(() => server[Symbol.asyncDispose]());
  for (const issuer of Object.values(issuers)) issuer.audience = server.url;
  const owned = opened.move();
  return {
    get server() {
      return server;
    },
    issuers,
    jobEnvironment(forge, claims) {
      if (forge === "gitlab") {
        return { GITLAB_CI: "true", FLYWHEEL_ID_TOKEN: gitlab.mint(claims) };
      }
      return {
        GITHUB_ACTIONS: "true",
        ...(forge === "forgejo" ? { FORGEJO_ACTIONS: "true" } : {}),
        ...issuers[forge].jobEnvironment(claims),
      };
    },
    async restart(env = {}) {
      const { host } = new URL(server.url);
      await server.stop();
      server = await start(env, host);
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** A job of CI on a machine of its own, where nobody has logged in. */
export interface TestJob extends AsyncDisposable {
  readonly home: string;
  /** Where `flywheel exchange` keeps the token. */
  readonly configFile: string;
  /** Runs `flywheel <words>`; never throws for its exit status. */
  run(words: readonly string[], options?: { readonly input?: string }): Promise<CommandResult>;
  /** The token that is saved. @throws {Error} when there is none. */
  savedToken(): Promise<string>;
}

const LAUNCHER = fileURLToPath(new URL("../../../../bin/flywheel", import.meta.url));

/** Makes a job with these variables and no others of ours; its home may be one that is there. */
export async function startTestJob(
  env: Readonly<Record<string, string>>,
  options: { readonly home?: string } = {},
): Promise<TestJob> {
  await using opened = new AsyncDisposableStack();
  const home = options.home ?? opened.use(await createTemporaryDirectory("flywheel-job-")).path;
  const configFile = path.join(home, ".config", "flywheel", "config.json");
  const owned = opened.move();
  return {
    home,
    configFile,
    run: (words, { input = "" } = {}) =>
      runCommand(LAUNCHER, words, {
        env: { PATH: process.env["PATH"], HOME: home, ...env },
        cwd: home,
        input,
      }),
    async savedToken() {
      const token = /"token": "(eyJ[^"]+)"/.exec(await readFile(configFile, "utf8"))?.[1];
      if (token === undefined) throw new Error(`${configFile} holds no token`);
      return token;
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
