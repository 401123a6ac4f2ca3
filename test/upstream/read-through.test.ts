import { randomUUID } from "node:crypto";
import { writeFile } from "node:fs/promises";
import path from "node:path";

import { createTemporaryDirectory, describeEachNix, type NixVersion } from "@glorious/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";

import {
  addUpstream,
  admin,
  copiesOf,
  flywheel,
  hostsOf,
  openWorld,
  realise,
  type World,
} from "./upstream-world.ts";

const PATHS = 8;
const UPSTREAM_PATHS = 5;

/** The upper paths of the chain are the server's, the lower ones the upstream's. */
async function openHalf(version: NixVersion, compression: string): Promise<World> {
  const world = await openWorld(version, {
    compression,
    paths: PATHS,
    upstreamPaths: UPSTREAM_PATHS,
  });
  // Nix sends what the cache does not have, which is what the upstream does not have.
  await world.publish();
  return world;
}

describeEachNix("a closure of which half is upstream", (version) => {
  let world: World;
  beforeAll(async () => {
    world = await openHalf(version, "xz");
  });
  afterAll(() => world[Symbol.asyncDispose]());

  test("comes from the one substituter there is, and then without the upstream", async () => {
    const { server, proxy, upstream, closure } = world;
    await using nix = await world.createNix();
    const first = await realise(nix, world);
    expect([first.status, first.stderr]).toEqual([0, expect.any(String)]);
    expect(copiesOf(first)).toBe(closure.length);
    expect(hostsOf(first)).toEqual([server.substituter]);
    const nars = upstream.requests.filter((each) => each.path.startsWith("/nar/"));
    expect(nars).toHaveLength(UPSTREAM_PATHS);

    await proxy.refuse();
    await using later = await world.createNix();
    const second = await realise(later, world);
    await proxy.accept();
    expect([second.status, second.stderr]).toEqual([0, expect.any(String)]);
    expect(copiesOf(second)).toBe(closure.length);
    expect(hostsOf(second)).toEqual([server.substituter]);
  });

  test("is fetched ahead for what an installable will be, built or not", async () => {
    await using folder = await createTemporaryDirectory("flywheel-flake-");
    await writeFile(
      path.join(folder.path, "flake.nix"),
      `{ outputs = _: { x = derivation { name = "${randomUUID()}"; system = "x86_64-linux"; builder = "/bin/sh"; }; }; }`,
    );
    await using nix = await world.createNix();
    const words = ["--closure-of", `path:${folder.path}#x`];
    const warmed = await flywheel(world, "warm", words, nix.env);
    expect([warmed.status, warmed.stderr]).toEqual([
      1,
      expect.stringContaining("1 path is nowhere"),
    ]);
    expect(JSON.parse(warmed.stdout)).toMatchObject({ fetched: 0, missing: [expect.any(String)] });
  });

  test("is refused to a client that does not trust the upstream's key, unless the view signs it", async () => {
    const { server } = world;
    await using nix = await world.createNix({ trustedKeys: [server.publicKey] });
    const refused = await realise(nix, world);
    expect([refused.status === 0, refused.stderr]).toEqual([false, expect.stringMatching(/sign/)]);
    await admin(server, "PATCH", `views/${server.view}`, { signsUpstream: true });
    await using later = await world.createNix({ trustedKeys: [server.publicKey] });
    const taken = await realise(later, world);
    await admin(server, "PATCH", `views/${server.view}`, { signsUpstream: false });
    expect([taken.status, taken.stderr]).toEqual([0, expect.any(String)]);
  });
});

describeEachNix(
  "a private upstream",
  (version) => {
    test("is read with its credential, for the one view that it belongs to", async () => {
      await using world = await openHalf(version, "zstd");
      const { server, upstream, proxy } = world;
      const authorization = `Bearer ${randomUUID()}`;
      await admin(server, "PUT", `views/${server.view}/upstreams`, { upstreams: [] });
      await addUpstream(server, "private", proxy.port, { view: server.view, authorization });
      await admin(server, "PUT", `views/${server.view}/upstreams`, { upstreams: ["private"] });
      const before = upstream.requests.length;
      const warmed = await flywheel(world, "warm", [world.top]);
      expect([warmed.status, warmed.stderr]).toEqual([0, expect.any(String)]);
      expect(JSON.parse(warmed.stdout)).toMatchObject({
        fetched: UPSTREAM_PATHS,
        already: PATHS - UPSTREAM_PATHS,
        missing: [],
        failed: [],
      });
      await using nix = await world.createNix();
      const result = await realise(nix, world);
      expect([result.status, result.stderr]).toEqual([0, expect.any(String)]);
      const asked = upstream.requests.slice(before);
      expect(asked.length).toBeGreaterThan(UPSTREAM_PATHS);
      expect(new Set(asked.map((each) => each.authorization))).toEqual(new Set([authorization]));
      expect(server.logs()).not.toContain(authorization);
    });
  },
  "newest",
);
