import { access, mkdir } from "node:fs/promises";
import path from "node:path";

import { expect, test } from "vitest";

import { createNixSandbox, describeEachNix } from "../src/index.ts";

describeEachNix("a Nix sandbox", (nix) => {
  test("builds offline and gives each build a path of its own", async () => {
    await using sandbox = await createNixSandbox(nix);
    const expression = `mkPath { name = "greeting"; script = "echo hi > $out"; }`;

    const first = await sandbox.buildPath(expression);
    const second = await sandbox.buildPath(expression);

    expect(first).toMatch(/^\/nix\/store\/[0-9a-z]{32}-greeting$/);
    expect(second).not.toBe(first);
    expect((await sandbox.output("nix", ["--version"])).split(" ").at(-1)).toBe(nix.version);
  });

  test("substitutes a signed closure into an empty store and refuses an unknown key", async () => {
    await using sandbox = await createNixSandbox(nix);
    const storePath = await sandbox.buildPath(
      `mkPath { name = "top"; script = "echo $deps > $out"; deps = [ (mkPath { name = "leaf"; script = "echo leaf > $out"; }) ]; }`,
    );
    const cache = path.join(sandbox.directory, "cache");
    await mkdir(cache);
    const [secret, key] = [path.join(cache, "secret"), path.join(cache, "key")];
    await sandbox.output("nix-store", ["--generate-binary-cache-key", "test-1", secret, key]);
    const url = `file://${cache}`;
    await sandbox.output("nix", [
      "copy",
      "--to",
      `${url}?compression=zstd&secret-key=${secret}`,
      storePath,
    ]);

    const refused = await sandbox.substitute(storePath, { from: url });
    await sandbox.configure({ trustedKeys: [await sandbox.output("cat", [key])] });
    const accepted = await sandbox.substitute(storePath, {
      from: url,
      store: await sandbox.createStore(),
    });

    expect(refused.status).not.toBe(0);
    expect(refused.stderr).toMatch(/lacks a|not signed by any/);
    expect(accepted, accepted.stderr).toMatchObject({ status: 0 });
    expect(accepted.stderr).toContain(`copying path '${storePath}' from '${url}'`);
  });

  test("a substituted path lies in the private store, and all of it goes with the sandbox", async () => {
    let directory: string;
    {
      await using sandbox = await createNixSandbox(nix);
      directory = sandbox.directory;
      const storePath = await sandbox.buildPath(
        `mkPath { name = "tree"; script = "mkdir -p $out/a; echo x > $out/a/b"; }`,
      );
      const url = `file://${path.join(directory, "cache")}`;
      await sandbox.output("nix", ["copy", "--to", `${url}?compression=none`, storePath]);
      await sandbox.configure({ extra: { "require-sigs": "false" } });

      const result = await sandbox.substitute(storePath, { from: url });

      expect(result, result.stderr).toMatchObject({ status: 0 });
      expect(await sandbox.output("cat", [path.join(sandbox.realPath(storePath), "a", "b")])).toBe(
        "x",
      );
    }
    await expect(access(directory)).rejects.toMatchObject({ code: "ENOENT" });
  });
});
