import { randomUUID } from "node:crypto";
import { writeFile } from "node:fs/promises";
import path from "node:path";

import { createTemporaryDirectory, describeEachNix, type NixVersion } from "@glorious/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";

import {
  addUpstream,
  admin,
  buildsOf,
  copiesOf,
  flywheel,
  hostsOf,
  openWorld,
  realise,
  type World,
} from "./upstream-world.ts";

const IS_LONG = process.env["GLORIOUS_LONG"] === "1";
const PATHS = 8;
const UPSTREAM_PATHS = 5;

/** The upper paths of the chain are the server's, the lower ones the upstream's. */
async function openHalf(
  version: NixVersion,
  compression: string,
  deadline = "20s",
): Promise<World> {
  const world = await openWorld(version, {
    compression,
    deadline,
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

/** Breaks a connection after one NAR and half of another, and all that follow at once. */
function breakOff(world: World, kind: "reset" | "black-hole"): void {
  world.meet(() => ({
    after: { bytes: world.proxy.faults.size > 0 ? 0 : 450_000, towards: "client", kind },
  }));
}

describeEachNix(
  "an upstream that fails in the middle of a closure",
  (version) => {
    const faults: Record<string, (world: World) => void> = {
      dies: (world) => breakOff(world, "reset"),
      hangs: (world) => breakOff(world, "black-hole"),
      lies: (world) => world.upstream.lie(true),
      ...(IS_LONG
        ? { slows: (world: World) => world.meet(() => ({ bytesPerSecond: 15_000 })) }
        : {}),
    };
    test.each(Object.entries(faults))(
      "and %s leaves the build green and nothing wrong behind",
      async (_title, fail) => {
        await using world = await openHalf(version, "zstd", "1s");
        fail(world);
        await using nix = await world.createNix();
        const words = ["--no-out-link", "--expr", world.expression];
        const result = await nix.run("nix-build", words);
        await world.forget();
        expect([result.status, result.stderr]).toEqual([0, expect.any(String)]);
        expect(buildsOf(result)).toBeGreaterThan(0);
        expect(hostsOf(result).filter((host) => host !== world.server.substituter)).toEqual([]);

        // Whatever is there now is right: a Nix that checks it takes all of it once the upstream is back.
        world.upstream.lie(false);
        world.meet(() => ({}));
        await expect
          .poll(
            async () => {
              await using later = await world.createNix();
              return (await realise(later, world)).status;
            },
            { timeout: 120_000, interval: 2000 },
          )
          .toBe(0);
      },
    );
  },
  "newest",
);

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
