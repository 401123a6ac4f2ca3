import { describeEachNix } from "@glorious/testkit";
import { expect, test } from "vitest";

import {
  admin,
  buildsOf,
  copiesOf,
  flywheel,
  hostsOf,
  openWorld,
  realise,
  type World,
} from "./upstream-world.ts";

const PATHS = 10;
const UPSTREAM_PATHS = 9;

interface Pushed {
  readonly uploaded: number;
  readonly alreadyPresent: number;
  readonly missing: number;
  readonly skipped: readonly {
    readonly upstream?: string;
    readonly reason: string;
    readonly storePaths: readonly string[];
  }[];
}

/** Pushes the whole closure with the real command. */
async function push(world: World, words: readonly string[] = []): Promise<Pushed> {
  const result = await flywheel(world, "push", [...words, world.top], world.owner.env);
  expect([result.status, result.stderr]).toEqual([0, expect.any(String)]);
  return JSON.parse(result.stdout) as Pushed;
}

function narsAskedFor({ upstream }: World): number {
  return upstream.requests.filter((each) => each.path.startsWith("/nar/")).length;
}

describeEachNix(
  "a push of a closure of which nine tenths are upstream's",
  (version) => {
    test("leaves them out and says so, and its readers get all of it from the one substituter", async () => {
      await using world = await openWorld(version, {
        compression: "xz",
        paths: PATHS,
        upstreamPaths: UPSTREAM_PATHS,
      });
      const { server } = world;

      const skipping = await push(world);
      expect(skipping).toMatchObject({ uploaded: 1, missing: 1 });
      expect(skipping.skipped).toEqual([
        expect.objectContaining({ upstream: "static", reason: expect.stringMatching(/static/) }),
      ]);
      expect(skipping.skipped[0]?.storePaths).toHaveLength(UPSTREAM_PATHS);
      expect(narsAskedFor(world)).toBe(0);
      expect(await push(world)).toMatchObject({ uploaded: 0, alreadyPresent: 1 });

      await world.forget();
      await using early = await world.createNix();
      const whole = await realise(early, world);
      expect([whole.status, whole.stderr]).toEqual([0, expect.any(String)]);
      expect([copiesOf(whole), hostsOf(whole)]).toEqual([PATHS, [server.substituter]]);
    });

    test("promises no more than the view holds, which is all of it where the view wants copies of its own", async () => {
      await using world = await openWorld(version, {
        compression: "zstd",
        paths: PATHS,
        upstreamPaths: UPSTREAM_PATHS,
      });
      const { server, proxy, expression } = world;
      await push(world);
      await world.forget();
      await proxy.refuse();
      await using nix = await world.createNix({ extra: { fallback: "false" } });
      const built = await nix.run("nix-build", ["--no-out-link", "--expr", expression]);
      expect([built.status, built.stderr]).toEqual([0, expect.any(String)]);
      // Nix takes no path whose references it cannot have, so that it is the whole chain.
      expect(buildsOf(built)).toBe(PATHS);

      await proxy.accept();
      await admin(server, "PATCH", `views/${server.view}`, { pushesUpstream: true });
      expect(await push(world)).toMatchObject({ uploaded: UPSTREAM_PATHS, skipped: [] });
      expect(narsAskedFor(world)).toBe(0);
      await world.forget();
      await proxy.refuse();
      await using later = await world.createNix({ extra: { fallback: "false" } });
      const kept = await realise(later, world);
      expect([kept.status, kept.stderr]).toEqual([0, expect.any(String)]);
      expect([copiesOf(kept), buildsOf(kept)]).toEqual([PATHS, 0]);
    });
  },
  "newest",
);
