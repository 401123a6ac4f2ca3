import { readFile } from "node:fs/promises";
import path from "node:path";

import {
  findNixVersions,
  githubClaims,
  type IdentityWorld,
  startIdentityWorld,
} from "@glorious/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { type NixJob, startNixJob } from "./nix-job.ts";

const PROJECT = { owner: "acme", ownerId: 1001, repository: "acme/site", repositoryId: 2001 };
const nix = findNixVersions().at(-1);

describe.skipIf(nix === undefined)("views that a job reads besides its own", () => {
  let world: IdentityWorld;
  beforeAll(async () => {
    world = await startIdentityWorld({
      tenants: {
        hub: {
          views: { main: { default: true }, other: {} },
          scopes: [
            {
              issuer: "github",
              repository: { id: "2001" },
              trusted: { refs: ["refs/heads/main"] },
            },
          ],
        },
        open: { views: { main: { public: true }, more: { public: true } }, scopes: [] },
      },
    });
  });
  afterAll(() => world[Symbol.asyncDispose]());

  const start = (): Promise<NixJob> => {
    if (nix === undefined) throw new Error("There is no Nix");
    const forge = world.jobEnvironment("github", githubClaims(PROJECT));
    return startNixJob(nix, { FLYWHEEL_SERVER: world.server.url, ...forge });
  };

  /** A path with one that it refers to, which somebody else put into a view. */
  const fill = async (view: string): Promise<string> => {
    await using owner = await start();
    const name = view.replace("+", "-");
    const below = `(mkPath { name = "${name}-below"; script = "echo ${name} > $out"; })`;
    const built = await owner.build(
      `mkPath { name = "${name}"; script = "echo \${${below}} > $out"; }`,
    );
    const { url, tokenFile } = world.server;
    const target = ["--view", view, "--server", url, "--token-file", tokenFile];
    const pushed = await owner.flywheel(["push", built, ...target]);
    expect(pushed.status, pushed.stderr).toBe(0);
    return built;
  };

  test("are asked in order, with their keys; one that it may not read is a warning", async () => {
    const [main, more] = [await fill("open+main"), await fill("open+more")];
    const extraViews = ["open+main", "hub+other", "Nonsense!", "open+more"];
    await using job = await start();

    const result = await job.request({ version: 1, kinds: ["nix"], extraViews });

    expect(result).toMatchObject({
      ...{ status: "ready", cache: "hub+main", extraCaches: ["open+main", "open+more"] },
      warnings: [
        {
          code: "extra-caches",
          message: expect.stringMatching(/hub\+other \(this job may not read it\), Nonsense! \(/),
        },
      ],
    });
    expect(result.publicKeys.map((key) => key.split(":")[0]?.replace(/-[0-9a-f]+$/, ""))).toEqual([
      ...["hub+main", "open+main", "open+more"],
    ]);
    const conf = await readFile(path.join(result.session ?? "", "nix.conf"), "utf8");
    expect(conf).toContain(`extra-trusted-public-keys = ${result.publicKeys.join(" ")}\n`);
    expect(job.env["ATTIC_PUBLIC_KEY"]).toBe(result.publicKeys[0]);
    for (const built of [main, more]) {
      expect(await job.realise(built), await job.log()).toMatchObject({ status: 0 });
    }
    const { summary, markdown } = await job.drain(["--end"]);
    expect(summary?.nix?.views).toMatchObject({
      "open+main": { hits: 2 },
      "open+more": { hits: 2 },
    });
    expect(markdown).toMatch(
      /\| Nix, from open\+main \| 2 paths, [^]*\| Nix, from open\+more \| 2 paths, /,
    );
  });

  test("come with the step that sets Nix up; what a later step names is not used, and said to be so", async () => {
    const built = await fill("open+main");
    await using job = await start();
    await job.request({ version: 1, kinds: ["bazel"], bazel: { bazelVersion: "7.7.1" } });

    const first = await job.setup(["--extra-view", "open+main"]);

    expect(first).toMatchObject({ extraCaches: ["open+main"], existing: true, warnings: [] });
    expect(await job.realise(built), await job.log()).toMatchObject({ status: 0 });

    const words = ["--view", "hub+other", "--extra-view", "open+main", "--extra-view", "open+more"];
    const second = await job.setup(words);

    expect(second).toMatchObject({
      ...{ status: "ready", cache: "hub+main", extraCaches: ["open+main"] },
      reason: expect.stringMatching(/with the view hub\+main of .*: hub\+other, open\+more, which/),
      warnings: [{ code: "not-used", message: second.reason }],
    });
    const { markdown } = await job.drain(["--end"]);
    expect(markdown).toContain("| Cache | hub+main (trusted) |");
    expect(markdown).toContain("| Named by a later step, not used | hub+other, open+more |");
  });
});
