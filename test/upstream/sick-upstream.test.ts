import { describeEachNix, findNixVersions } from "@glorious/testkit";
import { expect, test } from "vitest";

import { startStaticCache } from "./static-cache.ts";
import {
  addUpstream,
  admin,
  buildsOf,
  copiesOf,
  hostsOf,
  openWorld,
  realise,
  type World,
} from "./upstream-world.ts";

const IS_LONG = process.env["GLORIOUS_LONG"] === "1";
/** Nothing of a sick upstream may depend on it. */
const WITHOUT_FALLBACK = { extra: { fallback: "false" } };

/** Breaks a connection after one NAR and half of another, and all that follow at once. */
function breakOff(world: World, kind: "reset" | "black-hole"): void {
  world.meet(() => ({
    after: { bytes: world.proxy.faults.size > 0 ? 0 : 450_000, towards: "client", kind },
  }));
}

/** What happens once the narinfos are given. */
const FAULTS: Readonly<Record<string, (world: World) => void>> = {
  "dies on the way": (world) => breakOff(world, "reset"),
  hangs: (world) => breakOff(world, "black-hole"),
  slows: (world) => world.meet(() => ({ bytesPerSecond: 15_000 })),
  lies: ({ upstream }) => upstream.answerNars("lying"),
  fails: ({ upstream }) => upstream.answerNars("failing"),
  "cuts every NAR": ({ upstream }) => upstream.answerNars("cut"),
  "cuts every NAR and names no hashes": ({ upstream }) => {
    upstream.omitFileHashes();
    upstream.answerNars("cut");
  },
};
/** A transfer that breaks off is another matter in each Nix; the rest is the server's. */
const ON_OLD_NIX = new Set(["lies", "cuts every NAR", "cuts every NAR and names no hashes"]);

describeEachNix("an upstream that fails in the middle of a closure", (version) => {
  const versions = findNixVersions().map((each) => each.version);
  const isNewest = version.version === versions.at(-1);
  const isOldest = version.version === versions[0];
  const titles = Object.keys(FAULTS).filter(
    (title) => IS_LONG || isNewest || (isOldest && ON_OLD_NIX.has(title)),
  );
  test.each(titles)(
    "and %s leaves the build green without fallback, and nothing wrong behind",
    async (title) => {
      await using world = await openWorld(version, {
        compression: "zstd",
        paths: IS_LONG ? 8 : 4,
        upstreamPaths: IS_LONG ? 5 : 3,
        deadline: "1s",
      });
      await world.publish();
      FAULTS[title]?.(world);
      await using nix = await world.createNix(WITHOUT_FALLBACK);
      const words = ["--no-out-link", "--expr", world.expression];
      const result = await nix.run("nix-build", words);
      await world.forget();
      expect([result.status, result.stderr]).toEqual([0, expect.any(String)]);
      expect(buildsOf(result)).toBeGreaterThan(0);
      expect(hostsOf(result).filter((host) => host !== world.server.substituter)).toEqual([]);

      // Whatever is there now is right: a Nix that checks it takes all of it once the upstream is back.
      world.upstream.answerNars("right");
      world.meet(() => ({}));
      await expect
        .poll(
          async () => {
            await using later = await world.createNix();
            return (await realise(later, world)).status;
          },
          { timeout: 120_000, interval: 1000 },
        )
        .toBe(0);
    },
  );

  test("and cuts every NAR costs nothing where another upstream has the same files", async () => {
    await using world = await openWorld(version, {
      compression: "xz",
      paths: 4,
      upstreamPaths: 3,
    });
    await world.publish();
    const { server, upstream } = world;
    await using mirror = await startStaticCache(world.folder);
    await addUpstream(server, "mirror", mirror.port, { priority: 50 });
    await admin(server, "PUT", `views/${server.view}/upstreams`, {
      upstreams: ["static", "mirror"],
    });
    upstream.answerNars("cut");
    await using nix = await world.createNix(WITHOUT_FALLBACK);
    const result = await realise(nix, world);
    expect([result.status, result.stderr]).toEqual([0, expect.any(String)]);
    expect(copiesOf(result)).toBe(world.closure.length);
  });
});
