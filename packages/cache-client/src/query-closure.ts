import { CacheError } from "@glorious/core";
import { DEFAULT_STORE_DIR } from "@glorious/nix-store";

import { type NixCommandResult, runNix } from "./nix-command.ts";
import { parsePathInfoJson, type PathInfoAnswer } from "./parse-path-info.ts";
import type { PathInfo } from "./path-info.ts";
import { resolveStorePath } from "./resolve-store-path.ts";
import { whatNixSaid } from "./run-nix.ts";
import { locateStore, type StoreLocation } from "./store-location.ts";

/** Options of {@link queryClosure}. */
export interface QueryClosureOptions {
  /** With all they refer to, directly or not; without, the paths alone. */
  readonly recursive: boolean;
  /** The Nix command; default `nix`. */
  readonly nix?: string | undefined;
  /** A Nix store address, as in `nix --store`; default Nix's own choice. */
  readonly store?: string | undefined;
  /** The store directory in path names; default `/nix/store`. */
  readonly storeDir?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Far below what a process may be given as arguments, and still a thousand paths. */
const MAX_ARGUMENT_CHARS = 96 * 1024;
const DERIVATION_OUTPUTS = /^(.+\.drv)[\^!](.+)$/;

/**
 * Asks Nix about store paths: one process for a thousand paths, never one per path.
 *
 * Each of `paths` may be a store path, something inside one, a link such as `./result`, a derivation
 * (`….drv`, the file itself) or outputs of one (`….drv^*`, `….drv^out,dev`).
 *
 * @returns Every path once, sorted by store path.
 * @throws {CacheError} `NOT_FOUND` for a path this store does not have, `INVALID` for what is no store
 * path, `CONFIG` when Nix is missing or refuses, `UNSUPPORTED` when its answer is not understood or
 * the store is elsewhere.
 */
export async function queryClosure(
  paths: readonly string[],
  options: QueryClosureOptions,
): Promise<PathInfo[]> {
  const location = locateStore(options.store, options.storeDir ?? DEFAULT_STORE_DIR);
  const roots = new Set<string>();
  for (const path of paths) {
    for (const root of await resolveInput(path, location, options)) roots.add(root);
  }
  const found = new Map<string, PathInfo>();
  // Nix up to 2.14 takes a bare .drv for its outputs; --derivation means the file in every version.
  const derivations = [...roots].filter((root) => root.endsWith(".drv"));
  const others = [...roots].filter((root) => !root.endsWith(".drv"));
  for (const [group, flags] of [
    [others, []],
    [derivations, ["--derivation"]],
  ] as const) {
    for (const chunk of splitArguments(group)) {
      const answer = await askPathInfo(chunk, [...flags], location, options);
      requireValid(answer.absent, options.store);
      for (const info of answer.valid) {
        const realPath = `${location.realStoreDir}/${info.storePath.baseName}`;
        found.set(info.storePath.path, { ...info, realPath });
      }
    }
  }
  return [...found.values()].sort((a, b) => (a.storePath.path < b.storePath.path ? -1 : 1));
}

async function resolveInput(
  path: string,
  location: StoreLocation,
  options: QueryClosureOptions,
): Promise<readonly string[]> {
  const [, derivation, outputs] = DERIVATION_OUTPUTS.exec(path) ?? [];
  if (derivation === undefined || outputs === undefined) {
    return [await resolveStorePath(path, location)];
  }
  const drvPath = await resolveStorePath(derivation, location);
  const queries =
    outputs === "*" ? [["--outputs"]] : outputs.split(",").map((output) => ["--binding", output]);
  const answers: string[] = [];
  for (const query of queries) {
    const result = await runNix([...storeFlags(options), "--query", ...query, drvPath], {
      nix: options.nix,
      as: "nix-store",
      signal: options.signal,
    });
    if (result.exitCode !== 0) throw toNixError(result, `the outputs of ${drvPath}`);
    answers.push(...result.stdout.split("\n").filter((line) => line !== ""));
  }
  return answers;
}

function* splitArguments(paths: readonly string[]): Generator<string[]> {
  let chunk: string[] = [];
  let chars = 0;
  for (const path of paths) {
    if (chars + path.length + 1 > MAX_ARGUMENT_CHARS) {
      yield chunk;
      chunk = [];
      chars = 0;
    }
    chunk.push(path);
    chars += path.length + 1;
  }
  if (chunk.length > 0) yield chunk;
}

async function askPathInfo(
  paths: readonly string[],
  flags: readonly string[],
  location: StoreLocation,
  options: QueryClosureOptions,
): Promise<PathInfoAnswer> {
  const run = (format: readonly string[]): Promise<NixCommandResult> =>
    runNix(
      [
        "path-info",
        "--extra-experimental-features",
        "nix-command",
        ...storeFlags(options),
        // Only what is here can be pushed: no substituter need be asked about a path that is not.
        "--offline",
        "--json",
        ...format,
        ...(options.recursive ? ["--recursive"] : []),
        ...flags,
        ...paths,
      ],
      { nix: options.nix, signal: options.signal },
    );
  // Newer Nix wants the format named and will insist one day; older Nix refuses the flag at once.
  let result = await run(["--json-format", "1"]);
  if (result.exitCode !== 0 && /unrecogni[sz]ed flag '--json-format'/.test(result.stderr)) {
    result = await run([]);
  }
  if (result.exitCode !== 0) throw toNixError(result, "these paths");
  return parsePathInfoJson(result.stdout, location.storeDir);
}

function storeFlags({ store }: QueryClosureOptions): readonly string[] {
  return store === undefined ? [] : ["--store", store];
}

function requireValid(absent: readonly string[], store: string | undefined): void {
  const [first] = absent;
  if (first === undefined) return;
  const more = absent.length === 1 ? "" : ` (and ${absent.length - 1} more)`;
  throw new CacheError(
    "NOT_FOUND",
    `${first}${more} is not a valid path of ${store === undefined ? "this machine's store" : `store ${store}`}`,
    { hint: "Build or copy it first, or name the store that has it." },
  );
}

function toNixError(result: NixCommandResult, what: string): CacheError {
  const said = whatNixSaid(result);
  const isAbsent = /is not valid|does not exist|no such (file|path)/i.test(said);
  return new CacheError(
    isAbsent ? "NOT_FOUND" : "CONFIG",
    `Nix could not tell about ${what}: ${said}`,
    { hint: isAbsent ? "Build or copy the path first, or name the store that has it." : undefined },
  );
}
