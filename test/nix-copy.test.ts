import { readdir, readFile } from "node:fs/promises";
import path from "node:path";

import {
  type CommandResult,
  createNixSandbox,
  describeEachNix,
  type NixSandbox,
  type NixSettings,
  type NixVersion,
  type RunningFlywheel,
  startFlywheel,
} from "@glorious/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";

import { startCutProxy } from "./cut-proxy.ts";

let server: RunningFlywheel;
let token: string;
beforeAll(async () => {
  server = await startFlywheel();
  token = await server.readToken();
});
afterAll(() => server[Symbol.asyncDispose]());

interface View {
  readonly url: string;
  readonly publicKey: string;
}

let viewCount = 0;

/** A view that nobody has used before. */
async function createView(options: { readonly isPublic?: boolean } = {}): Promise<View> {
  viewCount += 1;
  const name = `view-${viewCount}`;
  const api = `${server.url}/_api/v1/cache-config/${name}`;
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  const created = await fetch(api, {
    method: "POST",
    headers,
    body: JSON.stringify({
      keypair: "Generate",
      is_public: options.isPublic ?? false,
      store_dir: "/nix/store",
      priority: 41,
      upstream_cache_key_names: [],
    }),
  });
  expect(created.status).toBe(200);
  const config = (await (await fetch(api, { headers })).json()) as { public_key: string };
  return { url: `${server.url}/${name}`, publicKey: config.public_key };
}

/** Signatures are wanted, and this view's are trusted. */
function trusting(view: View, settings: NixSettings = {}): NixSettings {
  return { trustedKeys: [view.publicKey], netrc: [{ password: token }], ...settings };
}

function nix(sandbox: NixSandbox, ...args: readonly string[]): Promise<CommandResult> {
  return sandbox.run("nix", args);
}

/** Copies a path and all it refers to; `query` is what follows the address. */
async function copyTo(
  sandbox: NixSandbox,
  view: View,
  storePath: string,
  query = "?compression=zstd",
): Promise<void> {
  const copied = await nix(sandbox, "copy", "--to", `${view.url}${query}`, storePath);
  expect([copied.status, copied.stderr]).toEqual([0, expect.any(String)]);
}

/** Asserts that a new user with an empty store gets the path from the view, signature checked. */
async function expectSubstituted(
  version: NixVersion,
  view: View,
  storePath: string,
  original: NixSandbox,
): Promise<void> {
  await using fresh = await createNixSandbox(version, trusting(view));
  const result = await fresh.substitute(storePath, { from: view.url });
  expect([result.status, result.stderr]).toEqual([
    0,
    expect.stringContaining(`copying path '${storePath}' from '${view.url}'`),
  ]);
  expect(result.stderr).not.toContain("building ");
  expect(await dump(fresh, fresh.store, storePath)).toBe(
    await dump(original, undefined, storePath),
  );
}

/** The hash of a path as it lies in a store. */
function dump(sandbox: NixSandbox, store: string | undefined, storePath: string): Promise<string> {
  const place = store === undefined ? storePath : sandbox.realPath(storePath, store);
  return sandbox.output("nix-hash", ["--type", "sha256", "--base32", place]);
}

const TREE = `mkPath {
  name = "top";
  deps = [ (mkPath { name = "leaf"; script = "echo $unique > $out"; }) ];
  script = ''
    mkdir -p $out/bin $out/empty
    printf '#!/bin/sh\\necho %s\\n' "$unique" > $out/bin/run
    chmod +x $out/bin/run
    ln -s ../bin/run $out/empty/link
    for dep in $deps; do echo $dep >> $out/deps; done
  '';
}`;

/** Does not compress, so that its bytes are on the wire. */
const LARGE = `mkPath {
  name = "large";
  script = "head -c 6000000 /dev/urandom > $out";
}`;

describeEachNix("nix copy", (version) => {
  test.each([
    "",
    "?compression=xz",
    "?compression=zstd",
    "?compression=none",
    "?compression=gzip",
    "?compression=br",
  ])("copies a closure in with %j, and anybody gets it out", async (query) => {
    const view = await createView();
    await using sandbox = await createNixSandbox(version, trusting(view));
    const storePath = await sandbox.buildPath(TREE);

    await copyTo(sandbox, view, storePath, query);

    // The same user's Nix remembers the narinfo it wrote itself, which nobody has signed, for 30 days; so it
    // asks for its own file under its own name, and would refuse it if it wanted signatures.
    const back = await nix(
      sandbox,
      "copy",
      "--from",
      view.url,
      "--to",
      sandbox.store,
      storePath,
      "--option",
      "require-sigs",
      "false",
    );
    expect([back.status, back.stderr]).toEqual([0, expect.any(String)]);
    expect(await dump(sandbox, sandbox.store, storePath)).toBe(
      await dump(sandbox, undefined, storePath),
    );
    await expectSubstituted(version, view, storePath, sandbox);
  });

  test("a second copy sends nothing again", async () => {
    const view = await createView();
    await using sandbox = await createNixSandbox(version, trusting(view));
    const storePath = await sandbox.buildPath(TREE);
    await copyTo(sandbox, view, storePath);
    await using second = await createNixSandbox(version, trusting(view));
    await using proxy = await startCutProxy({
      to: server.url,
      request: /^PUT /,
      towards: "server",
      afterBytes: Number.POSITIVE_INFINITY,
    });
    const through = { ...view, url: view.url.replace(server.url, proxy.url) };

    await copyTo(second, through, storePath);

    expect(proxy.heads).toEqual([]);
  });

  test("a path signed by another key is refused", async () => {
    const [view, other] = [await createView(), await createView()];
    await using sandbox = await createNixSandbox(version, trusting(view));
    const storePath = await sandbox.buildPath(TREE);
    await copyTo(sandbox, view, storePath);
    await using stranger = await createNixSandbox(version, trusting(other));

    const result = await stranger.substitute(storePath, { from: view.url });

    expect(result.status).not.toBe(0);
    expect(result.stderr).toMatch(
      /lacks a valid signature|lacks a signature by a trusted key|not signed by any of the keys/,
    );
    expect(await readdir(stranger.store)).not.toContain(path.basename(storePath));
  });

  test("a download that breaks is resumed where it broke", async () => {
    const view = await createView();
    await using sandbox = await createNixSandbox(version, trusting(view));
    const storePath = await sandbox.buildPath(LARGE);
    await copyTo(sandbox, view, storePath);
    await using proxy = await startCutProxy({
      to: server.url,
      request: /^GET \S+\/nar\//,
      towards: "client",
      afterBytes: 2_000_000,
    });
    const from = view.url.replace(server.url, proxy.url);
    await using fresh = await createNixSandbox(
      version,
      trusting(view, { extra: { "download-attempts": "5" } }),
    );

    const result = await fresh.substitute(storePath, { from });

    expect([result.status, result.stderr]).toEqual([
      0,
      expect.stringContaining(`copying path '${storePath}' from '${from}'`),
    ]);
    expect(proxy.cuts).toBe(1);
    expect(proxy.heads).toHaveLength(2);
    expect(proxy.heads[1]).toMatch(/^range: bytes=[1-9]\d*-\r?$/im);
    expect(server.logs()).toMatch(
      new RegExp(`"path":"${new URL(view.url).pathname}/nar/[^"]+","status":206`),
    );
    expect(await dump(fresh, fresh.store, storePath)).toBe(
      await dump(sandbox, undefined, storePath),
    );
  });

  test.each(["xz", "none"])(
    "an upload in %s that breaks leaves nothing, and the next one succeeds",
    async (compression) => {
      const view = await createView();
      await using sandbox = await createNixSandbox(version, trusting(view));
      const storePath = await sandbox.buildPath(
        compression === "xz" ? LARGE.replace("6000000", "600000") : LARGE,
      );
      const before = await listStoreFiles();
      await using proxy = await startCutProxy({
        to: server.url,
        request: /^PUT \S+\/nar\//,
        towards: "server",
        afterBytes: 300_000,
        times: Number.POSITIVE_INFINITY,
      });
      const through = { ...view, url: view.url.replace(server.url, proxy.url) };

      const broken = await nix(
        sandbox,
        "copy",
        "--to",
        `${through.url}?compression=${compression}`,
        storePath,
      );

      expect(broken.status).not.toBe(0);
      // curl may try again by itself when a connection it used before breaks.
      expect(proxy.cuts).toBeGreaterThan(0);
      await expect.poll(listStoreFiles).toEqual(before);
      await using probe = await createNixSandbox(version, trusting(view));
      expect((await nix(probe, "path-info", "--store", view.url, storePath)).status).not.toBe(0);

      proxy.letPass();
      await copyTo(sandbox, through, storePath, `?compression=${compression}`);
      await expectSubstituted(version, view, storePath, sandbox);
    },
  );

  test("a private view answers nobody without a token, and Nix says so", async () => {
    const view = await createView();
    await using sandbox = await createNixSandbox(version, trusting(view));
    const storePath = await sandbox.buildPath(TREE);
    await copyTo(sandbox, view, storePath);
    await using stranger = await createNixSandbox(version, trusting(view, { netrc: [] }));

    const result = await nix(
      stranger,
      "copy",
      "--from",
      view.url,
      "--to",
      stranger.store,
      storePath,
    );

    expect(result.status).not.toBe(0);
    expect(result.stderr).toMatch(
      version.version.startsWith("2.8.")
        ? /does not appear to be a binary cache/
        : /HTTP error 401/,
    );
    // Newer Nix shows what our answer says.
    if (!version.version.startsWith("2.8.")) expect(result.stderr).toContain("No token was sent");
    const push = await nix(stranger, "copy", "--to", view.url, storePath);
    expect(push.status).not.toBe(0);
  });

  test("a public view is read by everybody and written by nobody without a token", async () => {
    const view = await createView({ isPublic: true });
    await using sandbox = await createNixSandbox(version, trusting(view));
    const storePath = await sandbox.buildPath(TREE);
    await copyTo(sandbox, view, storePath);
    await using stranger = await createNixSandbox(version, trusting(view, { netrc: [] }));

    const result = await stranger.substitute(storePath, { from: view.url });

    expect([result.status, result.stderr]).toEqual([
      0,
      expect.stringContaining(`from '${view.url}'`),
    ]);
    const other = await stranger.buildPath(TREE);
    const push = await nix(stranger, "copy", "--to", `${view.url}?compression=zstd`, other);
    expect([push.status === 0, push.stderr]).toEqual([false, expect.stringMatching(/401|upload/)]);
  });

  test("a content-addressed path is taken without any trusted key", async () => {
    const view = await createView();
    await using sandbox = await createNixSandbox(version, trusting(view));
    const built = await sandbox.buildPath(LARGE.replace("6000000", "5000"));
    const storePath = await sandbox.output("nix-store", ["--add", built]);
    await copyTo(sandbox, view, storePath);
    await using fresh = await createNixSandbox(version, trusting(view, { trustedKeys: [] }));

    const result = await fresh.substitute(storePath, { from: view.url });

    expect([result.status, result.stderr]).toEqual([
      0,
      expect.stringContaining(`from '${view.url}'`),
    ]);
  });

  test("a closure of 300 paths goes in and out", async () => {
    const view = await createView();
    await using sandbox = await createNixSandbox(version, trusting(view));
    // Texts need no builder each, so they are there in no time.
    const top = await sandbox.buildPath(`let
      node = i: builtins.toFile "node-\${toString i}" (unique + (if i == 0 then "" else " \${node' (i - 1)} \${node' (i / 2)}"));
      nodes = builtins.genList node 299;
      node' = builtins.elemAt nodes;
    in mkPath { name = "top-of-300"; deps = nodes; script = "echo $deps > $out"; }`);

    await copyTo(sandbox, view, top);

    await using fresh = await createNixSandbox(version, trusting(view));
    const result = await fresh.substitute(top, { from: view.url });
    expect([result.status, result.stderr.match(/copying path/g)?.length]).toEqual([0, 300]);
    const closure = await fresh.output("nix-store", [
      "--store",
      fresh.store,
      "--query",
      "--requisites",
      top,
    ]);
    expect(closure.split("\n")).toHaveLength(300);
  });

  test("path-info, store ls and store cat look into the view", async () => {
    const view = await createView();
    await using sandbox = await createNixSandbox(version, trusting(view));
    const storePath = await sandbox.buildPath(TREE);
    await copyTo(sandbox, view, storePath);
    await using reader = await createNixSandbox(version, trusting(view));
    const store = ["--store", view.url];

    const closure = await reader.output("nix", ["path-info", "--recursive", ...store, storePath]);
    expect(closure.split("\n")).toHaveLength(2);
    const sized = await reader.output("nix", [
      "path-info",
      "--closure-size",
      "--size",
      ...store,
      storePath,
    ]);
    expect(sized).toMatch(/\s\d+\s+\d+$/);
    const listed = await reader.output("nix", ["store", "ls", "--recursive", ...store, storePath]);
    expect(listed.split("\n").toSorted()).toEqual([
      "./bin",
      "./bin/run",
      "./deps",
      "./empty",
      "./empty/link",
    ]);
    const long = await reader.output("nix", [
      "store",
      "ls",
      "--long",
      ...store,
      `${storePath}/bin`,
    ]);
    expect(long).toMatch(/-r-xr-xr-x .* .\/run/);
    const text = await reader.output("nix", ["store", "cat", ...store, `${storePath}/deps`]);
    expect(text).toBe((await readFile(`${storePath}/deps`, "utf8")).trim());
    // Nix writes listings only when told to; ours come from the NAR itself.
    const listing = await fetch(`${view.url}/${path.basename(storePath).slice(0, 32)}.ls`, {
      headers: { authorization: `Bearer ${token}` },
    });
    expect(await listing.text()).toMatch(/"narOffset":\d+/);
  });

  test("listings that Nix sends are taken, and a debug info link, too", async () => {
    const view = await createView();
    await using sandbox = await createNixSandbox(version, trusting(view));
    const id = "0123456789abcdef".repeat(2) + "01234567";
    const storePath = await sandbox.buildPath(`mkPath {
      name = "with-debug-info";
      script = ''
        mkdir -p $out/lib/debug/.build-id/\${builtins.substring 0 2 "${id}"}
        echo $unique > $out/lib/debug/.build-id/\${builtins.substring 0 2 "${id}"}/\${builtins.substring 2 38 "${id}"}.debug
      '';
    }`);

    await copyTo(
      sandbox,
      view,
      storePath,
      "?compression=zstd&write-nar-listing=1&index-debug-info=1",
    );

    const headers = { authorization: `Bearer ${token}` };
    const answer = await fetch(`${view.url}/debuginfo/${id}.debug`, { headers });
    const link = (await (
      answer.ok ? answer : await fetch(`${view.url}/debuginfo/${id}`, { headers })
    ).json()) as {
      archive: string;
      member: string;
    };
    expect(link.member).toBe(`lib/debug/.build-id/${id.slice(0, 2)}/${id.slice(2)}.debug`);
    const archive = await fetch(new URL(link.archive, `${view.url}/debuginfo/`), { headers });
    expect(archive.status).toBe(200);
  });

  test("a build log goes in and out", async () => {
    const view = await createView();
    await using sandbox = await createNixSandbox(version, trusting(view));
    const storePath = await sandbox.buildPath(
      `mkPath { name = "noisy"; script = "echo this is logged; echo $unique > $out"; }`,
    );
    const derivation = await sandbox.output("nix-store", ["--query", "--deriver", storePath]);

    const copied = await nix(sandbox, "store", "copy-log", "--to", view.url, derivation);
    expect([copied.status, copied.stderr]).toEqual([0, expect.any(String)]);

    const log = await fetch(`${view.url}/log/${path.basename(derivation)}`, {
      headers: { authorization: `Bearer ${token}` },
    });
    expect([log.status, log.headers.get("content-type")]).toEqual([
      200,
      "text/plain; charset=utf-8",
    ]);
    expect(await log.text()).toBe("this is logged\n");
    // Nix 2.8 looks for the log of a path that it finds in the view only.
    const withPath = await nix(sandbox, "copy", "--derivation", "--to", view.url, derivation);
    expect([withPath.status, withPath.stderr]).toEqual([0, expect.any(String)]);
    await using reader = await createNixSandbox(version, trusting(view));
    expect(await reader.output("nix", ["log", "--store", view.url, derivation])).toBe(
      "this is logged",
    );
  });

  test("a floating content-addressed output is found again through its realisation", async () => {
    const view = await createView();
    const extra = { "experimental-features": "nix-command flakes ca-derivations" };
    await using sandbox = await createNixSandbox(version, trusting(view, { extra }));
    const unique = crypto.randomUUID();
    const expression = `builtins.derivation {
      name = "floating"; system = builtins.currentSystem; builder = "/bin/sh"; PATH = "/usr/bin:/bin";
      args = [ "-c" "echo ${unique} > $out" ];
      __contentAddressed = true; outputHashMode = "recursive"; outputHashAlgo = "sha256";
    }`;
    const storePath = await sandbox.output("nix-build", ["--no-out-link", "--expr", expression]);

    const copied = await nix(
      sandbox,
      "copy",
      "--to",
      `${view.url}?compression=zstd`,
      "--impure",
      "--expr",
      expression,
    );
    expect([copied.status, copied.stderr]).toEqual([0, expect.any(String)]);

    expect(server.logs()).toMatch(
      new RegExp(
        `"PUT","path":"${new URL(view.url).pathname}/(realisations|build-trace-v2)/[^"]+","status":200`,
      ),
    );
    await using fresh = await createNixSandbox(version, trusting(view, { extra }));
    const built = await nix(
      fresh,
      "build",
      "--no-link",
      "--json",
      "--impure",
      "--expr",
      expression,
      "--store",
      fresh.store,
      "--option",
      "substituters",
      view.url,
    );
    expect([built.status, built.stderr]).toEqual([
      0,
      expect.stringContaining(`copying path '${storePath}' from '${view.url}'`),
    ]);
    expect(built.stdout).toContain(storePath);
  });
});

/** Every file of the server's store, unfinished ones included. */
async function listStoreFiles(): Promise<string[]> {
  const root = path.join(server.dataDirectory, "store");
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile() && !entry.name.includes(".lock"))
    .map((entry) => entry.name)
    .toSorted();
}
