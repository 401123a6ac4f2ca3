import { userInfo } from "node:os";
import { isAbsolute, join } from "node:path";

import type { RunProgramOptions } from "@glorious/cache-client";
import { CacheError } from "@glorious/core";
import { parseStorePath } from "@glorious/nix-store";

import type { CliContext } from "../../cli-context.ts";
import type { Answer } from "../../doctor/answer.ts";
import type { HttpSession } from "../../doctor/http-session.ts";
import { attempt, known, notTried, type Probe, reasonOf, valueOf } from "../../doctor/probe.ts";
import { homeFolder } from "../../user-folders.ts";
import type { Reader } from "../reader.ts";
import type { NarInfoMemory, NixFacts, PathFacts, UserFacts } from "../snapshot.ts";
import { fetchNar } from "./fetch-nar.ts";
import { findStorePath, getNarInfo } from "./find-store-path.ts";
import { readNarInfoMemory } from "./read-narinfo-memory.ts";
import { verifyWithNix } from "./verify-with-nix.ts";

/** What {@link gatherPath} is asked to look at. */
export interface PathQuestion {
  /** The path to fetch; default one of the newest here. */
  readonly named: string | undefined;
  readonly substituter: string;
  /** What Nix authenticates with. Secret. */
  readonly password: string | undefined;
  readonly cacheInfo: Probe<Answer>;
  readonly nix: NixFacts;
  readonly user: UserFacts;
  readonly reader: Reader | undefined;
}

/** What it does so with. */
export interface PathTools {
  readonly session: HttpSession;
  readonly run: RunProgramOptions;
  readonly context: CliContext;
}

/** Fewer would leave out many a path; more would take long to fetch a second time. */
const MAX_VERIFY_BYTES = 256 * 2 ** 20;

/** Fetches one path from the cache, first as Nix would, then with Nix itself. */
export async function gatherPath(question: PathQuestion, tools: PathTools): Promise<PathFacts> {
  const { named, substituter, password, cacheInfo, nix } = question;
  const { session } = tools;
  const isNamed = named !== undefined;
  const storePath: Probe<string> =
    named === undefined ? notTried("no path is named") : known(named);
  if (cacheInfo.state !== "known" || cacheInfo.value.status !== 200) {
    const none = notTried(
      cacheInfo.state === "known" ? "the cache does not let Nix in" : reasonOf(cacheInfo),
    );
    const memory = await gatherMemory(question, named, tools);
    return { isNamed, storePath, narInfo: none, nar: none, memory, verify: none };
  }
  const found = await attempt(async () => {
    if (named === undefined) {
      return findStorePath(realStoreDir(nix), substituter, session, password);
    }
    const { hash } = parseStorePath(named, nix.storeDir);
    const narInfo = await getNarInfo(hash, substituter, session, password);
    if (narInfo === undefined) throw new CacheError("NOT_FOUND", `the view does not have ${named}`);
    return { storePath: named, narInfo };
  });
  const memory = await gatherMemory(question, named ?? valueOf(found)?.storePath, tools);
  if (found.state !== "known" || found.value === undefined) {
    const none = notTried("there is no path of the view to try");
    const narInfo = found.state === "failed" ? found : none;
    return { isNamed, storePath, narInfo, nar: none, memory, verify: none };
  }
  const { narInfo, storePath: path } = found.value;
  return {
    isNamed,
    storePath: known(path),
    narInfo: known(narInfo),
    nar: await attempt(() => fetchNar(narInfo, substituter, session, password)),
    memory,
    verify: await gatherVerify(question, found.value, tools),
  };
}

function gatherVerify(
  { nix, substituter, reader }: PathQuestion,
  { storePath, narInfo }: { readonly storePath: string; readonly narInfo: { narSize: number } },
  { run }: PathTools,
): Promise<PathFacts["verify"]> {
  if (reader?.kind !== "user") {
    return Promise.resolve(notTried("a daemon substitutes here, and only for builds"));
  }
  if (narInfo.narSize > MAX_VERIFY_BYTES) {
    return Promise.resolve(notTried("the path is too large to be fetched twice"));
  }
  const { requireSignatures } = reader;
  return attempt(() =>
    verifyWithNix(nix.command, { substituter, storePath, requireSignatures }, run),
  );
}

function gatherMemory(
  { substituter, nix, reader, user }: PathQuestion,
  storePath: string | undefined,
  { context }: PathTools,
): Promise<Probe<NarInfoMemory>> {
  const settings = valueOf(nix.settings);
  if (reader === undefined || settings === undefined) {
    return Promise.resolve(notTried("Nix's settings are unknown"));
  }
  if (reader.kind === "daemon" && user.id !== 0) {
    return Promise.resolve(notTried("the daemon remembers for everybody, and only root can look"));
  }
  return attempt(() =>
    readNarInfoMemory({
      // The daemon's home is root's, whatever the environment says.
      cacheHome: reader.kind === "daemon" ? join(userInfo().homedir, ".cache") : cacheHome(context),
      substituter,
      storePathHash: storePath === undefined ? undefined : hashOf(storePath, nix.storeDir),
      settings,
      nowMs: context.nowMs(),
    }),
  );
}

function hashOf(storePath: string, storeDir: string): string | undefined {
  try {
    return parseStorePath(storePath, storeDir).hash;
  } catch {
    return undefined;
  }
}

function cacheHome({ env }: CliContext): string {
  const folder = env["XDG_CACHE_HOME"];
  return folder !== undefined && isAbsolute(folder) ? folder : join(homeFolder(env), ".cache");
}

/** Where the store's files lie: below another root for `local?root=` and bare folders. */
function realStoreDir(nix: NixFacts): string {
  const [address = "", query = ""] = (valueOf(nix.store)?.url ?? "").split("?", 2);
  const parameters = new URLSearchParams(query);
  const root = address.startsWith("/") ? address : (parameters.get("root") ?? "");
  return parameters.get("real") ?? `${root.replace(/\/+$/, "")}${nix.storeDir}`;
}
