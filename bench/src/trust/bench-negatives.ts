import { randomBytes } from "node:crypto";
import { Agent, request } from "node:http";

import { encodeNix32 } from "@glorious/nix-store";
import { githubClaims, startIdentityWorld } from "@glorious/testkit";

import { describeMachine } from "../machine.ts";
import { writeSection } from "../report-section.ts";
import { exchange } from "./exchange.ts";
import { fillPaths, PATHS, storePathHash } from "./fill-views.ts";

export interface NegativesOptions {
  readonly quick: boolean;
  readonly rounds: number | undefined;
}

const ORGANIZATIONS = { acme: 2001, initech: 4001 } as const;
const READER = "initech+main";
const SECTION = "What a tenant can time";

/** What the figures say; to be looked at again when they are taken again. */
const READING =
  "The last column is how often the slower one of two questions, one of each kind, is the one about acme's path: at 50 % " +
  "nothing can be learned from a time, however often it is asked. That the server does the same work for both, question " +
  "by question to its index, is what `packages/cache-server/test/commons-negatives.test.ts` asserts.";

interface Question {
  readonly what: string;
  readonly method: string;
  readonly path: (hash: string) => string;
  readonly body?: (hash: string) => unknown;
}

const QUESTIONS: readonly Question[] = [
  { what: "GET narinfo", method: "GET", path: (hash) => `/${READER}/${hash}.narinfo` },
  { what: "HEAD narinfo", method: "HEAD", path: (hash) => `/${READER}/${hash}.narinfo` },
  {
    what: "get-missing-paths",
    method: "POST",
    path: () => "/_api/v1/get-missing-paths",
    body: (hash) => ({ cache: READER, store_path_hashes: [hash] }),
  },
  {
    what: "closure",
    method: "POST",
    path: () => `/_flywheel/v1/views/${READER}/closure`,
    body: (hash) => ({ roots: [hash] }),
  },
];

/**
 * Measures whether a tenant that reads the commons can tell by time a path that another tenant alone has from one that
 * nobody has. Both kinds of questions take turns on one connection, so that whatever else the machine does meets both.
 */
export async function benchNegatives(options: NegativesOptions): Promise<void> {
  const samples = options.rounds ?? (options.quick ? 300 : 5000);
  const trusted = { refs: ["refs/heads/main"] };
  const tenantOf = (id: number, view: object): object => ({
    views: { main: view },
    scopes: [{ issuer: "github", repository: { id }, trusted, untrusted: "read" }],
  });
  await using world = await startIdentityWorld({
    env: { FLYWHEEL_LOG_REQUESTS: "false", FLYWHEEL_LOG_LEVEL: "error" },
    tenants: {
      acme: tenantOf(ORGANIZATIONS.acme, { contributes: "agreed", reads: ["commons"] }),
      initech: tenantOf(ORGANIZATIONS.initech, { reads: ["commons"] }),
    },
    sharedViews: { commons: { agreement: {} } },
  });
  const join = (name: keyof typeof ORGANIZATIONS): ReturnType<typeof exchange> => {
    const repositoryId = ORGANIZATIONS[name];
    const repository = `${name}/site`;
    return exchange(
      world,
      githubClaims({ owner: name, ownerId: repositoryId, repository, repositoryId }),
    );
  };
  await fillPaths(world.server, "acme+main", (await join("acme")).token);
  const { token } = await join("initech");
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const ask = (question: Question, hash: string): Promise<number> =>
    timeOf(new URL(question.path(hash), world.server.url), {
      agent,
      token,
      method: question.method,
      body: question.body === undefined ? undefined : JSON.stringify(question.body(hash)),
    });
  const lines = [
    "| Question     | nobody's: p50, p90 | acme's: p50, p90 | acme's is the slower one |",
    "| ------------ | ------------------ | ---------------- | ------------------------ |",
  ];
  for (const question of QUESTIONS) {
    const absent: number[] = [];
    const theirs: number[] = [];
    for (let count = -100; count < samples; count += 1) {
      const number = Math.floor(Math.random() * PATHS);
      const turns = [
        { kept: absent, hash: encodeNix32(randomBytes(20)) },
        { kept: theirs, hash: storePathHash(number) },
      ];
      if (Math.random() < 0.5) turns.reverse();
      for (const { kept, hash } of turns) {
        const tookMs = await ask(question, hash);
        if (count >= 0) kept.push(tookMs);
      }
    }
    const share = (100 * shareSlower(theirs, absent)).toFixed(1);
    // Of two samples of that size from one distribution, two out of three differ by less.
    const error = (100 / Math.sqrt(6 * samples)).toFixed(1);
    lines.push(
      `| ${question.what} | ${describe(absent)} | ${describe(theirs)} | ${share} % ± ${error} |`,
    );
  }
  agent.destroy();
  const text = `Measured on ${describeMachine()}; client and server share the cores. ${samples} questions of each kind in random turns over one connection, with the token of a tenant that reads the commons: about a path that nobody has, and about one that another tenant, acme, alone has and would contribute. In milliseconds.\n\n${lines.join("\n")}`;
  process.stdout.write(`${text}\n`);
  if (!options.quick) {
    await writeSection(SECTION, `Written by \`pnpm bench negatives\`.\n\n${text}\n\n${READING}`);
  }
}

interface Asked {
  readonly agent: Agent;
  readonly token: string;
  readonly method: string;
  readonly body: string | undefined;
}

/** Milliseconds until an answer is here whole. */
function timeOf(url: URL, { agent, token, method, body }: Asked): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const headers = {
    authorization: `Bearer ${token}`,
    ...(body === undefined ? {} : { "content-type": "application/json" }),
  };
  const startMs = performance.now();
  const asked = request(url, { agent, method, headers }, (response) => {
    response.resume();
    response.on("end", () => resolve(performance.now() - startMs));
  });
  asked.on("error", reject);
  asked.end(body);
  return promise;
}

function describe(values: readonly number[]): string {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number): string =>
    (sorted[Math.floor(share * (sorted.length - 1))] ?? 0).toFixed(3);
  return `${at(0.5)}, ${at(0.9)}`;
}

/** How many pairs of one of each have the larger one among `values`: Mann and Whitney's U. */
function shareSlower(values: readonly number[], others: readonly number[]): number {
  const all = [
    ...values.map((value) => ({ value, isOurs: true })),
    ...others.map((value) => ({ value, isOurs: false })),
  ].toSorted((a, b) => a.value - b.value);
  let ranks = 0;
  for (const [place, { isOurs }] of all.entries()) if (isOurs) ranks += place + 1;
  const pairs = values.length * others.length;
  return (ranks - (values.length * (values.length + 1)) / 2) / pairs;
}
