import { randomUUID } from "node:crypto";

import {
  describeEachNix,
  githubClaims,
  type IdentityWorld,
  startIdentityWorld,
  startTestJob,
} from "@glorious/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";

import { type Machine, startMachine } from "./job-machine.ts";

const ORGANIZATIONS = { acme: 2001, globex: 3001, initech: 4001 } as const;
type Organization = keyof typeof ORGANIZATIONS;

const tenantOf = (id: number, view: object): object => ({
  views: { main: view },
  scopes: [{ issuer: "github", repository: { id }, trusted: { refs: ["refs/heads/main"] } }],
});

/** The very same derivation for everybody who evaluates it, or one of somebody's own. */
const expressionOf = (name: string, seed: string): string => `
  let path = name: deps: builtins.derivation {
    inherit name deps;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    PATH = "/usr/bin:/bin";
    args = [ "-c" "echo ${seed} $deps > $out" ];
  };
  in path "${name}" [ (path "under-${name}" [ ]) ]`;

describeEachNix(
  "the commons",
  (version) => {
    let world: IdentityWorld;
    beforeAll(async () => {
      const contributes = { contributes: "agreed", reads: ["commons"] };
      world = await startIdentityWorld({
        tenants: {
          acme: tenantOf(ORGANIZATIONS.acme, contributes),
          globex: tenantOf(ORGANIZATIONS.globex, contributes),
          initech: tenantOf(ORGANIZATIONS.initech, { reads: ["commons"] }),
        },
        sharedViews: { commons: { agreement: {} } },
      });
    });
    afterAll(() => world[Symbol.asyncDispose]());

    const start = (name: Organization): Promise<Machine> => {
      const repositoryId = ORGANIZATIONS[name];
      const repository = `${name}/site`;
      const claims = githubClaims({ owner: name, ownerId: repositoryId, repository, repositoryId });
      return startMachine(version, world, world.jobEnvironment("github", claims));
    };

    test("two organizations build one derivation, the third one does not, and nobody gets what one alone has", async () => {
      const expression = expressionOf("shared", randomUUID());
      const built: string[] = [];
      let own = "";
      for (const name of ["acme", "globex"] as const) {
        await using machine = await start(name);
        built.push(await machine.sandbox.buildPath(expression));
        expect(await machine.push(built.at(-1) ?? "")).toMatchObject({ status: 0 });
        if (name === "globex") continue;
        own = await machine.sandbox.buildPath(expressionOf("private", randomUUID()));
        expect(await machine.push(own)).toMatchObject({ status: 0 });
      }
      const [path = "", again] = built;
      expect(again).toBe(path);
      await using operator = await startTestJob({});
      const { url, tokenFile } = world.server;
      const explain = async (of: string): Promise<string> => {
        const where = ["--server", url, "--token-file", tokenFile];
        return (await operator.run(["commons", "explain", of, ...where])).stdout;
      };
      await expect
        .poll(() => explain(path), { timeout: 30_000 })
        .toContain("The path is in commons: tenants built it alike.");
      expect(await explain(own)).toContain("2 tenants must have built it alike");

      await using initech = await start("initech");
      expect(initech.exchanged.grant.read).toEqual(["initech+main", "commons"]);
      expect(await initech.pulls(path)).toBe(true);
      expect(await initech.pulls(own)).toBe(false);
      await using globex = await start("globex");
      expect(await globex.pulls(own)).toBe(false);
    });
  },
  "newest",
);
