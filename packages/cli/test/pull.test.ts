import { readdir } from "node:fs/promises";
import path from "node:path";

import { createNixSandbox, describeEachNix, startFlywheel } from "@glorious/testkit";
import { expect, test } from "vitest";

const CLOSURE = `mkPath {
  name = "pulled";
  script = "echo $deps > $out";
  deps = [ (mkPath { name = "dependency"; script = "echo dependency > $out"; }) ];
}`;

describeEachNix("Nix itself", (version) => {
  test("pulls a closure into a store and into a folder, signatures checked", async () => {
    await using server = await startFlywheel();
    await using nix = await createNixSandbox(version);
    await nix.configure({
      trustedKeys: [server.publicKey],
      netrc: [{ password: await server.readToken() }],
    });
    const storePath = await nix.buildPath(CLOSURE);
    // Pushed by our own client, as `nix copy` would leave its unsigned narinfo behind.
    const { openCache, queryClosure } = await import("@glorious/cache-client");
    await using cache = await openCache({
      server: server.url,
      view: "main",
      token: await server.readToken(),
    });
    const nixCommand = path.join(version.binDirectory, "nix");
    await cache.push(await queryClosure([storePath], { recursive: true, nix: nixCommand }));

    const from = ["copy", "--from", server.substituter, "--to"];
    await nix.output("nix", [...from, nix.store, storePath]);
    const pulled = await readdir(nix.realPath("/nix/store"));
    expect(pulled.filter((name) => name !== ".links")).toHaveLength(2);

    const folder = path.join(nix.directory, "folder");
    await nix.output("nix", [...from, `file://${folder}?compression=zstd`, storePath]);
    const names = await readdir(folder);
    expect(names.filter((name) => name.endsWith(".narinfo"))).toHaveLength(2);

    const store = await nix.createStore();
    const realised = await nix.substitute(storePath, { from: server.substituter, store });
    expect(realised.status).toBe(0);

    await nix.configure({ netrc: [{ password: await server.readToken() }] });
    const untrusted = await nix.run("nix", [...from, await nix.createStore(), storePath]);
    expect(untrusted.status).not.toBe(0);
    expect(untrusted.stderr).toMatch(/lacks a (valid )?signature/);
  });
});
