import path from "node:path";

import {
  createNixSandbox,
  type IdentityWorld,
  type NixSandbox,
  type NixVersion,
  startTestJob,
  type TestJob,
} from "@glorious/testkit";
import { expect } from "vitest";

/** What `flywheel exchange --json` says. */
interface Exchanged {
  readonly grant: { readonly trust: string; readonly read: string[]; readonly write?: string };
  readonly nix: { readonly substituters: string[]; readonly publicKeys: string[] };
  readonly notices: string[];
}

/** A machine that has just been given a job: nothing in its store, nothing remembered. */
export interface Machine extends AsyncDisposable {
  readonly job: TestJob;
  readonly sandbox: NixSandbox;
  readonly exchanged: Exchanged;
  push(storePath: string): Promise<{ readonly status: number; readonly stderr: string }>;
  /** Whether Nix, with no more than the exchange gave, gets the path from the cache. */
  pulls(storePath: string): Promise<boolean>;
}

/** Lets the job in by its identity, and gives its Nix what the exchange answers. */
export async function startMachine(
  version: NixVersion,
  { server }: IdentityWorld,
  env: Readonly<Record<string, string>>,
): Promise<Machine> {
  await using opened = new AsyncDisposableStack();
  const sandbox = opened.use(await createNixSandbox(version));
  const job = opened.use(await startTestJob(env, { home: sandbox.home }));
  const { status, stdout, stderr } = await job.run(["exchange", "--json", "--server", server.url]);
  expect([status, stderr]).toEqual([0, expect.any(String)]);
  const exchanged = JSON.parse(stdout) as Exchanged;
  await sandbox.configure({
    trustedKeys: exchanged.nix.publicKeys,
    netrc: [{ password: await job.savedToken() }],
  });
  const owned = opened.move();
  return {
    job,
    sandbox,
    exchanged,
    push: (storePath) =>
      job.run(["push", "--nix", path.join(version.binDirectory, "nix"), storePath]),
    async pulls(storePath) {
      const store = await sandbox.createStore();
      const from = exchanged.nix.substituters.join(" ");
      const { status: got } = await sandbox.substitute(storePath, { from, store });
      return got === 0;
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** A path of nobody else's, over another one. */
export const buildWithNix = (sandbox: NixSandbox, name: string): Promise<string> =>
  sandbox.buildPath(`mkPath {
    name = "${name}";
    script = "echo $deps > $out";
    deps = [ (mkPath { name = "under-${name}"; script = "echo $unique > $out"; }) ];
  }`);
