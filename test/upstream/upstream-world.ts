import { randomUUID } from "node:crypto";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

import {
  formatPublicKey,
  formatSecretKey,
  generateSecretKey,
  toPublicKey,
} from "@glorious/nix-store";
import {
  type CommandResult,
  type ConnectionFault,
  createNixSandbox,
  createTemporaryDirectory,
  type FaultProxy,
  type NixSandbox,
  type NixVersion,
  type RunningFlywheel,
  runCommand,
  startFaultProxy,
  startFlywheel,
} from "@glorious/testkit";

import { startStaticCache, type StaticCache } from "./static-cache.ts";

const LAUNCHER = fileURLToPath(new URL("../../bin/flywheel", import.meta.url));

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
const UPSTREAM_KEY: string = formatPublicKey(toPublicKey(key));

export interface World extends AsyncDisposable {
  readonly server: RunningFlywheel;
  /** Where the chain was built: the machine's store. */
  readonly owner: NixSandbox;
  readonly upstream: StaticCache;
  /** The folder that the upstream serves, as any other may. */
  readonly folder: string;
  /** Between the server and its upstream. */
  readonly proxy: FaultProxy;
  /** From now on this says what each new connection to the upstream meets. */
  meet(plan: () => ConnectionFault): void;
  /** The whole chain. */
  readonly expression: string;
  readonly top: string;
  readonly closure: readonly string[];
  /** Sends the server what neither it nor the upstream has, and takes the chain from the machine's store. */
  publish(): Promise<void>;
  /** The machine's store has none of the chain. */
  forget(): Promise<void>;
  /** A Nix whose only cache is the server. */
  createNix(options?: ClientOptions): Promise<NixSandbox>;
}

export interface ClientOptions {
  readonly trustedKeys?: readonly string[];
  /** Further lines of nix.conf. */
  readonly extra?: Readonly<Record<string, string>>;
}

export interface WorldOptions {
  readonly compression: string;
  /** How long the chain is. */
  readonly paths: number;
  /** How many of it, from the bottom, the upstream has. */
  readonly upstreamPaths: number;
  /** How long the upstream may take to answer; short where it hangs. Default 20 s. */
  readonly deadline?: string;
}

/** A server whose view has an upstream with the lower paths of a chain that the machine's store holds. */
export async function openWorld(
  version: NixVersion,
  { compression, paths, upstreamPaths, deadline = "20s" }: WorldOptions,
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
  const token = await server.readToken();
  const owner = opened.use(await createNixSandbox(version, { netrc: [{ password: token }] }));
  const chain = createChain();
  const expression = chain(paths - 1);
  const build = (text: string): Promise<string> =>
    owner.output("nix-build", ["--no-out-link", "--expr", text]);
  const top = await build(expression);
  const lower = await build(chain(upstreamPaths - 1));
  const closure = (await owner.output("nix-store", ["-qR", top])).split("\n");
  const forget = async (): Promise<void> => {
    await owner.run("nix-store", ["--delete", ...closure]);
  };
  opened.defer(forget);
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
  await addUpstream(server, "static", proxy.port);
  await admin(server, "PUT", `views/${server.view}/upstreams`, { upstreams: ["static"] });
  const owned = opened.move();
  return {
    server,
    owner,
    upstream,
    folder,
    proxy,
    meet(next) {
      plan = next;
    },
    expression,
    top,
    closure,
    async publish() {
      await owner.output("nix", ["copy", "--to", `${server.substituter}?compression=zstd`, top]);
      await forget();
    },
    forget,
    createNix: ({ trustedKeys = [server.publicKey, UPSTREAM_KEY], extra } = {}) =>
      createNixSandbox(version, {
        substituters: [server.substituter],
        trustedKeys,
        netrc: [{ password: token }],
        extra: {
          "require-sigs": "true",
          fallback: "true",
          "narinfo-cache-negative-ttl": "0",
          "download-attempts": "2",
          ...extra,
        },
      }),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Defines an upstream on this machine, with the key that the chain is signed by. */
export async function addUpstream(
  server: RunningFlywheel,
  name: string,
  port: number,
  more: Readonly<Record<string, unknown>> = {},
): Promise<void> {
  const url = `http://127.0.0.1:${port}/`;
  await admin(server, "POST", "upstreams", { name, url, publicKeys: [UPSTREAM_KEY], ...more });
}

/** Asks one of the server's own routes. @throws {Error} when it refuses. */
export async function admin(
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

/** Runs `flywheel COMMAND … --json` for the server's view. */
export async function flywheel(
  { server }: World,
  command: string,
  words: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<CommandResult> {
  const { url, view, tokenFile } = server;
  const options = ["--json", "--server", url, "--view", view, "--token-file", tokenFile];
  return runCommand(LAUNCHER, [command, ...options, ...words], {
    env: { PATH: process.env["PATH"] ?? "", ...env },
  });
}

/** Substitutes the whole chain into an empty store. */
export async function realise(nix: NixSandbox, { top }: World): Promise<CommandResult> {
  const store = await nix.createStore();
  return nix.run("nix-store", ["--store", store, "--realise", top]);
}

const COPIED = /copying path '(\S+)' from '(\S+)'/g;
const BUILT = /building '/g;

/** The hosts that a command's paths came from, each once. */
export function hostsOf({ stderr }: CommandResult): string[] {
  return [...new Set([...stderr.matchAll(COPIED)].map(([, , from = ""]) => from))];
}

/** How many paths a command substituted. */
export function copiesOf({ stderr }: CommandResult): number {
  return [...stderr.matchAll(COPIED)].length;
}

/** How many paths a command built. */
export function buildsOf({ stderr }: CommandResult): number {
  return [...stderr.matchAll(BUILT)].length;
}
