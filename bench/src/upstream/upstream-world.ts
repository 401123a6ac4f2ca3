import { rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

import {
  formatPublicKey,
  formatSecretKey,
  generateSecretKey,
  toPublicKey,
} from "@glorious/nix-store";
import {
  createTemporaryDirectory,
  type NixVersion,
  type RunningFlywheel,
  startFlywheel,
} from "@glorious/testkit";

import { output } from "../command.ts";
import { startNginx } from "../nginx.ts";
import { openTools } from "../tools.ts";

const LAUNCHER = fileURLToPath(new URL("../../../bin/flywheel", import.meta.url));

/** Our server, and nginx with a signed static cache that stands for an upstream. */
export interface UpstreamWorld extends AsyncDisposable {
  readonly server: RunningFlywheel;
  /** The upstream's own address. */
  readonly upstreamUrl: string;
  readonly upstreamKey: string;
  readonly nix: NixVersion;
  /** For what is measured and not kept. */
  readonly directory: string;
  /** Puts closures into the upstream; how many bytes it has then. */
  publish(paths: readonly string[]): Promise<number>;
  /** Makes a view; its public key. */
  createView(view: string): Promise<string>;
  /** Makes the view read through to an upstream at this address, of which nothing was fetched yet. */
  readThrough(view: string, url: string): Promise<void>;
  /** Runs a command of ours as the administrator. */
  flywheel(words: readonly string[]): Promise<string>;
}

/** Opens both on this machine, with temporary folders. */
export async function openUpstreamWorld(say: (line: string) => void): Promise<UpstreamWorld> {
  await using opened = new AsyncDisposableStack();
  const tools = await openTools(say);
  const { path: directory } = opened.use(await createTemporaryDirectory("bench-upstream-"));
  const server = opened.use(await startFlywheel({ env: { FLYWHEEL_LOG_LEVEL: "error" } }));
  const key = generateSecretKey("upstream.example.org-1");
  const keyFile = path.join(directory, "key");
  await writeFile(keyFile, formatSecretKey(key));
  const upstreamKey = formatPublicKey(toPublicKey(key));
  const root = path.join(directory, "cache");
  const publish = async (paths: readonly string[]): Promise<number> => {
    const to = `file://${root}?compression=zstd&secret-key=${keyFile}`;
    const nix = path.join(tools.nix.binDirectory, "nix");
    await output(nix, [
      "--extra-experimental-features",
      "nix-command",
      "copy",
      "--to",
      to,
      ...paths,
    ]);
    return Number.parseInt(await output("du", ["-sb", root]), 10);
  };
  const flywheel = (words: readonly string[]): Promise<string> =>
    output(LAUNCHER, [...words, "--server", server.url, "--token-file", server.tokenFile]);
  // nginx wants something to answer with before it counts as up.
  await output("mkdir", ["-p", root]);
  await writeFile(path.join(root, "nix-cache-info"), "StoreDir: /nix/store\n");
  const nginx = opened.use(
    await startNginx(tools, { directory: path.join(directory, "nginx"), root }),
  );
  let isThere = false;
  const owned = opened.move();
  return {
    server,
    directory,
    upstreamUrl: nginx.url,
    upstreamKey,
    nix: tools.nix,
    publish,
    flywheel,
    async createView(view) {
      await flywheel(["view", "create", view]);
      const said = JSON.parse(await flywheel(["view", "info", view, "--json"])) as {
        readonly publicKey: string;
      };
      return said.publicKey;
    },
    async readThrough(view, url) {
      if (isThere) await flywheel(["upstream", "remove", "static"]);
      isThere = true;
      await flywheel(["upstream", "add", "static", url, "--key", upstreamKey]);
      await flywheel(["upstream", "use", view, "static"]);
    },
    async [Symbol.asyncDispose]() {
      await owned.disposeAsync();
      await rm(directory, { recursive: true, force: true });
    },
  };
}
