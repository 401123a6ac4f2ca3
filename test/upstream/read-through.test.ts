import { randomUUID } from "node:crypto";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

import {
  generateSecretKey,
  formatPublicKey,
  formatSecretKey,
  toPublicKey,
} from "@glorious/nix-store";
import {
  type CommandResult,
  type ConnectionFault,
  createNixSandbox,
  createTemporaryDirectory,
  describeEachNix,
  type FaultProxy,
  type NixSandbox,
  type NixVersion,
  type RunningFlywheel,
  startFaultProxy,
  runCommand,
  startFlywheel,
} from "@glorious/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";

import { startStaticCache, type StaticCache } from "./static-cache.ts";

const LAUNCHER = fileURLToPath(new URL("../../bin/flywheel", import.meta.url));
const IS_LONG = process.env["GLORIOUS_LONG"] === "1";
const PATHS = 8;
const UPSTREAM_PATHS = 5;

/** A chain of paths, each of which holds bytes that do not compress and refers to the one before. */
function createChain(): (last: number) => string {
  const seed = randomUUID();
  return (last) => `let
    make = n: before: builtins.derivation {
      name = "up-\${toString n}"; system = builtins.currentSystem; builder = "/bin/sh"; PATH = "/usr/bin:/bin";
      args = [ "-c" "mkdir $out; echo \${before} >$out/before; openssl enc -aes-128-ctr -nosalt -pbkdf2 -iter 1 -pass pass:${seed}\${toString n} </dev/zero 2>/dev/null | head -c 300000 >$out/noise" ];
    };
    chain = n: if n == 0 then make 0 "" else make n (chain (n - 1));
  in chain ${last}`;
}

const key = generateSecretKey("upstream.example.org-1");
const UPSTREAM_KEY = formatPublicKey(toPublicKey(key));

interface World extends AsyncDisposable {
  readonly server: RunningFlywheel;
  readonly upstream: StaticCache;
  /** Between the server and its upstream. */
  readonly proxy: FaultProxy;
  /** From now on this says what each new connection to the upstream meets. */
  meet(plan: () => ConnectionFault): void;
  /** The whole chain. */
  readonly expression: string;
  readonly top: string;
  readonly closure: readonly string[];
  /** The machine's store has none of the chain. */
  forget(): Promise<void>;
  /** A Nix whose only cache is the server. */
  createNix(trustedKeys?: readonly string[]): Promise<NixSandbox>;
}

/** A server whose view holds the upper paths of a chain; its upstream has the lower ones. */
async function openWorld(
  version: NixVersion,
  compression: string,
  /** How long the upstream may take to answer; short where it hangs. */
  deadline = "20s",
): Promise<World> {
  await using opened = new AsyncDisposableStack();
  const { path: directory } = opened.use(await createTemporaryDirectory("flywheel-upstream-"));
  const server = opened.use(
    await startFlywheel({
      env: {
        FLYWHEEL_UPSTREAM_DEADLINE: deadline,
        // So that what was wrong may be right again soon.
        FLYWHEEL_UPSTREAM_NEGATIVE_TTL: "1s",
      },
    }),
  );
  const owner = opened.use(
    await createNixSandbox(version, { netrc: [{ password: await server.readToken() }] }),
  );
  const chain = createChain();
  const expression = chain(PATHS - 1);
  const build = (text: string): Promise<string> =>
    owner.output("nix-build", ["--no-out-link", "--expr", text]);
  const top = await build(expression);
  const lower = await build(chain(UPSTREAM_PATHS - 1));
  const closure = (await owner.output("nix-store", ["-qR", top])).split("\n");
  const token = await server.readToken();
  const keyFile = path.join(directory, "key");
  await writeFile(keyFile, formatSecretKey(key));
  const folder = path.join(directory, "cache");
  const options = `compression=${compression}&secret-key=${keyFile}`;
  await owner.output("nix", ["copy", "--to", `file://${folder}?${options}`, lower]);
  const upstream = opened.use(await startStaticCache(folder));
  let plan = (): ConnectionFault => ({});
  const proxy = opened.use(
    await startFaultProxy(
      () => upstream.port,
      () => plan(),
    ),
  );
  await admin(server, "POST", "upstreams", {
    name: "static",
    url: `http://127.0.0.1:${proxy.port}/`,
    publicKeys: [UPSTREAM_KEY],
  });
  await admin(server, "PUT", `views/${server.view}/upstreams`, { upstreams: ["static"] });
  // Nix sends what the cache does not have, which is what the upstream does not have.
  await owner.output("nix", ["copy", "--to", `${server.substituter}?compression=zstd`, top]);
  const forget = async (): Promise<void> => {
    await owner.run("nix-store", ["--delete", ...closure]);
  };
  await forget();
  opened.defer(forget);
  const owned = opened.move();
  return {
    server,
    upstream,
    proxy,
    meet(next) {
      plan = next;
    },
    expression,
    top,
    closure,
    forget,
    createNix: (trustedKeys = [server.publicKey, UPSTREAM_KEY]) =>
      createNixSandbox(version, {
        substituters: [server.substituter],
        trustedKeys,
        netrc: [{ password: token }],
        extra: {
          "require-sigs": "true",
          fallback: "true",
          "narinfo-cache-negative-ttl": "0",
          "download-attempts": "2",
        },
      }),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function admin(
  server: RunningFlywheel,
  method: string,
  route: string,
  body: unknown,
): Promise<unknown> {
  const answer = await fetch(`${server.url}/_flywheel/v1/${route}`, {
    method,
    headers: {
      authorization: `Bearer ${await server.readToken()}`,
      "content-type": "application/json",
    },
    body: JSON.stringify(body),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${route}: ${answer.status} ${text}`);
  return JSON.parse(text);
}

/** Runs `flywheel warm --json`. */
async function warm(
  { server }: World,
  words: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<CommandResult> {
  const { url, view, tokenFile } = server;
  const options = ["--json", "--server", url, "--view", view, "--token-file", tokenFile];
  return runCommand(LAUNCHER, ["warm", ...options, ...words], {
    env: { PATH: process.env["PATH"] ?? "", ...env },
  });
}

const COPIED = /copying path '(\S+)' from '(\S+)'/g;
const BUILT = /building '/g;

/** Substitutes the whole chain into an empty store. */
async function realise(nix: NixSandbox, { top }: World): Promise<CommandResult> {
  const store = await nix.createStore();
  return nix.run("nix-store", ["--store", store, "--realise", top]);
}

/** The hosts that a command's paths came from, each once. */
function hostsOf({ stderr }: CommandResult): string[] {
  return [...new Set([...stderr.matchAll(COPIED)].map(([, , from = ""]) => from))];
}

describeEachNix("a closure of which half is upstream", (version) => {
  let world: World;
  beforeAll(async () => {
    world = await openWorld(version, "xz");
  });
  afterAll(() => world[Symbol.asyncDispose]());

  test("comes from the one substituter there is, and then without the upstream", async () => {
    const { server, proxy, upstream, closure } = world;
    await using nix = await world.createNix();
    const first = await realise(nix, world);
    expect([first.status, first.stderr]).toEqual([0, expect.any(String)]);
    expect([...first.stderr.matchAll(COPIED)]).toHaveLength(closure.length);
    expect(hostsOf(first)).toEqual([server.substituter]);
    const nars = upstream.requests.filter((each) => each.path.startsWith("/nar/"));
    expect(nars).toHaveLength(UPSTREAM_PATHS);

    await proxy.refuse();
    await using later = await world.createNix();
    const second = await realise(later, world);
    await proxy.accept();
    expect([second.status, second.stderr]).toEqual([0, expect.any(String)]);
    expect([...second.stderr.matchAll(COPIED)]).toHaveLength(closure.length);
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
    const warmed = await warm(world, words, nix.env);
    expect([warmed.status, warmed.stderr]).toEqual([
      1,
      expect.stringContaining("1 path is nowhere"),
    ]);
    expect(JSON.parse(warmed.stdout)).toMatchObject({ fetched: 0, missing: [expect.any(String)] });
  });

  test("is refused to a client that does not trust the upstream's key, unless the view signs it", async () => {
    const { server } = world;
    await using nix = await world.createNix([server.publicKey]);
    const refused = await realise(nix, world);
    expect([refused.status === 0, refused.stderr]).toEqual([false, expect.stringMatching(/sign/)]);
    await admin(server, "PATCH", `views/${server.view}`, { signsUpstream: true });
    await using later = await world.createNix([server.publicKey]);
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
        await using world = await openWorld(version, "zstd", "1s");
        fail(world);
        await using nix = await world.createNix();
        const words = ["--no-out-link", "--expr", world.expression];
        const result = await nix.run("nix-build", words);
        await world.forget();
        expect([result.status, result.stderr]).toEqual([0, expect.any(String)]);
        expect([...result.stderr.matchAll(BUILT)].length).toBeGreaterThan(0);
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
      await using world = await openWorld(version, "zstd");
      const { server, upstream, proxy } = world;
      const authorization = `Bearer ${randomUUID()}`;
      await admin(server, "PUT", `views/${server.view}/upstreams`, { upstreams: [] });
      await admin(server, "POST", "upstreams", {
        name: "private",
        url: `http://127.0.0.1:${proxy.port}/`,
        publicKeys: [UPSTREAM_KEY],
        view: server.view,
        authorization,
      });
      await admin(server, "PUT", `views/${server.view}/upstreams`, { upstreams: ["private"] });
      const before = upstream.requests.length;
      const warmed = await warm(world, [world.top]);
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
