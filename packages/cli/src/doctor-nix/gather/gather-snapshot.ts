import { readFile } from "node:fs/promises";

import type { RunProgramOptions } from "@glorious/cache-client";

import type { CliContext } from "../../cli-context.ts";
import { gatherNetrc } from "../../doctor/gather-netrc.ts";
import { gatherNetwork } from "../../doctor/gather-network.ts";
import { openHttpSession } from "../../doctor/http-session.ts";
import { matchNetrc } from "../../doctor/netrc-match.ts";
import { attempt, notTried, valueOf } from "../../doctor/probe.ts";
import { netrcHost } from "../../user-files/netrc.ts";
import { readerOf } from "../reader.ts";
import type { NixFacts, Snapshot } from "../snapshot.ts";
import { gatherNix, gatherUser } from "./gather-nix.ts";
import { gatherPath } from "./gather-path.ts";
import { gatherPriorities, gatherView } from "./gather-server.ts";

/** What {@link gatherSnapshot} is asked to look at. */
export interface Examination {
  /** With a trailing slash. */
  readonly server: string;
  readonly view: string;
  readonly serverFlag: string;
  /** The user's own token, to ask what Nix's own cannot. Secret. */
  readonly token: string | undefined;
  /** The path to fetch; default one of the newest here. */
  readonly storePath: string | undefined;
  readonly nix: string;
  /** How long any single step may take. */
  readonly timeoutMs: number;
}

/** Nix needs longer than a connection: it may have to make its folders first. */
const NIX_TIMEOUT_MS = 60_000;

/** Looks at everything once: Nix, its files, the network, the server, a path. Changes nothing. */
export async function gatherSnapshot(
  examination: Examination,
  context: CliContext,
): Promise<Snapshot> {
  const { server, view, timeoutMs } = examination;
  const { env, signal } = context;
  const run: RunProgramOptions = { env, signal, timeoutMs: NIX_TIMEOUT_MS };
  const [nix, user] = await Promise.all([
    gatherNix(examination.nix, run),
    gatherUser(context.userId),
  ]);
  const reader = readerOf(nix, user);
  const netrc = await gatherNetrc(reader?.netrcFile);
  const caFile = findCaFile(nix, context);
  const ca = caFile === undefined ? undefined : await readCa(caFile);
  const firstAddress = new URL(view, server).href;
  const network = await gatherNetwork({
    url: new URL(`${firstAddress}/nix-cache-info`),
    timeoutMs,
    env,
    ca,
    caFile,
  });

  using session = openHttpSession({ timeoutMs, ca, signal, nowMs: () => context.nowMs() });
  const askedAs = reader?.kind === "daemon" && netrc.entries.state === "failed" ? "user" : "nix";
  const passwordFor = (url: string): string | undefined => {
    if (askedAs === "nix") {
      return matchNetrc(valueOf(netrc.entries) ?? [], netrcHost(url)).used?.password;
    }
    // It was given for that very server and goes nowhere else.
    return new URL(url).origin === new URL(server).origin ? examination.token : undefined;
  };
  const isReachable = network.connection.state === "known" && network.tls.state !== "failed";
  const unreachable = notTried("the server cannot be reached");
  const first = isReachable
    ? await attempt(() => session.get(`${firstAddress}/nix-cache-info`, passwordFor(firstAddress)))
    : unreachable;
  const answers = first.state === "known";
  const config = answers
    ? await gatherView({
        server,
        view,
        tokens: [passwordFor(server), examination.token, undefined],
        timeoutMs,
        ca,
        signal,
      })
    : unreachable;
  const substituter = valueOf(config)?.config.substituterEndpoint ?? firstAddress;
  const password = passwordFor(substituter);
  const cacheInfo =
    substituter === firstAddress || !answers
      ? first
      : await attempt(() => session.get(`${substituter}/nix-cache-info`, password));
  const readiness = answers ? await attempt(() => session.get(`${server}readyz`)) : unreachable;
  const own = { substituter, cacheInfo };
  const priorities = await gatherPriorities(reader?.substituters ?? [], own, session);
  return {
    nowMs: context.nowMs(),
    target: { server, view, substituter, serverFlag: examination.serverFlag },
    user,
    nix,
    netrc,
    network,
    server: { askedAs, cacheInfo, config, readiness, priorities },
    path: await gatherPath(
      {
        named: examination.storePath,
        substituter,
        password,
        cacheInfo,
        nix,
        user,
        reader,
      },
      { session, run, context },
    ),
  };
}

/** The authorities that Nix trusts, by its own order of looking. */
function findCaFile(nix: NixFacts, { env }: CliContext): string | undefined {
  const named = [env["NIX_SSL_CERT_FILE"], env["SSL_CERT_FILE"], valueOf(nix.settings)?.caFile];
  return named.find((file) => file !== undefined && file !== "") ?? DEFAULT_CA_FILE;
}

const DEFAULT_CA_FILE = "/etc/ssl/certs/ca-certificates.crt";

async function readCa(file: string): Promise<string | undefined> {
  return readFile(file, "utf8").catch(() => undefined);
}
