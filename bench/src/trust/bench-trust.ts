import { generateKeyPairSync } from "node:crypto";
import { writeFile } from "node:fs/promises";
import path from "node:path";

import {
  createTemporaryDirectory,
  githubClaims,
  type IdentityWorld,
  startIdentityWorld,
} from "@glorious/testkit";

import { formatRate } from "../bazel/bazel-report.ts";
import {
  replay,
  type ReplayOptions,
  type ReplayResult,
  type Target,
} from "../bazel/load/replay.ts";
import { describeMachine } from "../machine.ts";
import { writeSection } from "../report-section.ts";
import { formatTable, type Row } from "../report.ts";
import { exchange } from "./exchange.ts";
import { fillActions, fillPaths } from "./fill-views.ts";
import { type Asker, layActions, layExchanges, layNarInfos } from "./gate-load.ts";

export interface TrustOptions {
  readonly quick: boolean;
  readonly rounds: number | undefined;
}

const PROJECT = { owner: "acme", ownerId: 1001, repository: "acme/site", repositoryId: 2001 };
/** As many tokens in turn as callers that the server remembers, and half of them. */
const MANY_TOKENS = 500;
/** Each repository may exchange so many tokens at once. */
const EXCHANGES_PER_REPOSITORY = 500;
const REPOSITORIES = 8;

const SECTION = "The trust gate";

/** What the figures say; to be looked at again when they are taken again. */
const READING =
  "The gate itself costs nothing that can be measured: callers, views and permissions are remembered until the index " +
  "changes. What shows over gRPC is the reading of the header where a client sends it in full with each call; clients " +
  "that keep HPACK's table send a token once on a connection.";

const say = (line: string): void => void process.stderr.write(`bench: ${line}\n`);

/** Measures what it costs to know who asks: the same questions without and with tokens, on both planes. */
export async function benchTrust(options: TrustOptions): Promise<void> {
  const rounds = options.rounds ?? (options.quick ? 1 : 3);
  const measureMs = options.quick ? 500 : 2000;
  await using directory = await createTemporaryDirectory("flywheel-bench-trust-");
  await using world = await startWorld(directory.path);
  const { hostname: host, port } = new URL(world.server.url);
  const target = { host, port: Number(port) };
  const admin = await world.server.readToken();
  for (const view of ["hub+open", "hub+main"]) {
    say(`filling ${view}`);
    await fillPaths(world.server, view, admin);
    await fillActions(target, view, admin);
  }
  const askers = await prepareAskers(world, admin);
  const measured = { rounds, measureMs };
  const ofBazel = askers.flatMap((asker) =>
    asker.tokens.length === 1
      ? [
          { ...asker, what: `${asker.what}, in full with each call` },
          { ...asker, what: `${asker.what}, remembered by HPACK`, isRemembered: true },
        ]
      : [asker],
  );
  const rows = [
    ...(await compare("Narinfos over 16 connections", layNarInfos, askers, target, measured)),
    ...(await compare(
      "GetActionResult over gRPC, 2 connections with 16 calls each",
      layActions,
      ofBazel,
      target,
      measured,
    )),
    await exchangeRow(world, target, rounds),
  ];
  const text = `Measured on ${describeMachine()}; client and server share the cores. Without a token a public view is asked, and nothing has to be decided: that is the reference, and the ratio is the rate without a token to the rate with one. Each figure is the best of ${rounds}, taken in turn.\n${formatTable(rows, [])}`;
  process.stdout.write(`${text}\n`);
  if (!options.quick) {
    await writeSection(SECTION, `Written by \`pnpm bench trust\`.\n\n${text}\n\n${READING}`);
  }
}

async function startWorld(directory: string): Promise<IdentityWorld> {
  const file = path.join(directory, "tokens.pem");
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  await writeFile(file, privateKey.export({ format: "pem", type: "pkcs1" }), { mode: 0o600 });
  const trusted = { refs: ["refs/heads/main"] };
  return startIdentityWorld({
    env: {
      FLYWHEEL_LOG_REQUESTS: "false",
      FLYWHEEL_LOG_LEVEL: "error",
      FLYWHEEL_TOKEN_KEYS: JSON.stringify([{ algorithm: "RS256", file, kid: "bench" }]),
    },
    tenants: {
      hub: {
        views: { main: { default: true }, open: { public: true } },
        scopes: [
          {
            issuer: "github",
            view: "main",
            organization: { id: "1001" },
            trusted,
            untrusted: "read",
          },
        ],
      },
    },
  });
}

async function prepareAskers(world: IdentityWorld, admin: string): Promise<Asker[]> {
  say("exchanging tokens");
  const review = githubClaims({ ...PROJECT, ref: "refs/pull/12/merge", event: "pull_request" });
  const main = await exchange(world, githubClaims(PROJECT));
  const aside = await exchange(world, review);
  const many: string[] = [];
  for (let count = 0; count < MANY_TOKENS; count += 1) {
    many.push((await exchange(world, githubClaims(PROJECT))).token);
  }
  return [
    { what: "nobody, of a public view", view: "hub+open", tokens: [] },
    { what: "a token that an administrator made", view: "hub+main", tokens: [admin] },
    { what: "an exchanged token", view: "hub+main", tokens: [main.token] },
    { what: `${MANY_TOKENS} exchanged tokens in turn`, view: "hub+main", tokens: many },
    {
      what: "an exchanged token, through an overlay",
      view: aside.grant.read[0] ?? "",
      tokens: [aside.token],
    },
  ];
}

async function compare(
  group: string,
  lay: (asker: Asker) => Pick<ReplayOptions, "protocol" | "rings" | "depth">,
  askers: readonly Asker[],
  target: Target,
  options: { readonly rounds: number; readonly measureMs: number },
): Promise<Row[]> {
  const loads = askers.map(lay);
  const best: ReplayResult[] = [];
  // One round more, which warms up.
  for (let round = -1; round < options.rounds; round += 1) {
    for (const [place, load] of loads.entries()) {
      const { what = "" } = askers[place] ?? {};
      say(`${group}: ${what}`);
      const result = await replay(target, { ...load, measureMs: options.measureMs });
      if (result.wrong > 0) throw new Error(`${what}: ${result.firstWrong}`);
      const known = best[place];
      const isBetter = round >= 0 && (known === undefined || result.perSecond > known.perSecond);
      if (isBetter) best[place] = result;
    }
  }
  const [reference] = best;
  return best.map((result, place) => ({
    group: `${group}, requests per second; p50 and p99 in milliseconds`,
    what: askers[place]?.what ?? "",
    ours: formatRate(result),
    reference: reference === undefined || place === 0 ? "" : formatRate(reference),
    ratio:
      reference === undefined || place === 0 ? undefined : reference.perSecond / result.perSecond,
    peers: {},
  }));
}

async function exchangeRow(world: IdentityWorld, target: Target, rounds: number): Promise<Row> {
  let best: ReplayResult | undefined;
  for (let round = 0; round < rounds; round += 1) {
    say("exchanges");
    const tokens = Array.from({ length: REPOSITORIES * EXCHANGES_PER_REPOSITORY }, (_, place) =>
      world.issuers.github.mint(
        // Others in each round, so that none is held back for what it did before.
        githubClaims({
          ...PROJECT,
          repositoryId: 5000 + round * REPOSITORIES + (place % REPOSITORIES),
        }),
      ),
    );
    const result = await replay(target, { ...layExchanges(tokens), measureMs: undefined });
    if (result.wrong > 0) throw new Error(`exchange: ${result.firstWrong}`);
    if (best === undefined || result.perSecond > best.perSecond) best = result;
  }
  return {
    group: "Exchanges, RS256 verified and RS256 (2048 bits) signed",
    what: "identity tokens, each once, over 16 connections",
    ours: best === undefined ? "" : formatRate(best),
    reference: "",
    ratio: undefined,
    peers: {},
  };
}
