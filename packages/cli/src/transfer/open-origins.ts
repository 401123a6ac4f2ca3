import { resolve } from "node:path";

import type { AtticSource, CacheSource } from "@glorious/cache-client";

import type { CliContext } from "../cli-context.ts";
import { readTokenFile } from "../read-secret.ts";
import { UsageError } from "../usage-error.ts";

/** A cache to import, and the view that it goes into. */
export interface Origin {
  readonly view: string;
  readonly source: CacheSource;
  /** What its server says of it; `undefined` for a static cache. */
  readonly config?: AtticSource["config"];
  /** Secret: what signs it. */
  readonly secretKey?: string;
  /** Store paths by the names that pin them. */
  readonly pins?: ReadonlyMap<string, string>;
}

/** The options that say where an import comes from. */
export interface OriginValues {
  readonly from: string | undefined;
  readonly key: readonly string[];
  readonly unsigned: boolean;
  readonly index: string | undefined;
  readonly fromAttic: string | undefined;
  readonly fromAtticDatabase: string | undefined;
  readonly storage: string | undefined;
  readonly cache: string | undefined;
  readonly allCaches: boolean;
  readonly all: boolean;
  readonly withKeys: boolean;
  readonly sourceTokenFile: string | undefined;
}

/** @throws {UsageError} when the command line does not say plainly what is imported from where. */
export function requireOrigin(options: OriginValues, view: string | undefined): void {
  const kinds = [options.from, options.fromAttic, options.fromAtticDatabase];
  if (kinds.filter((kind) => kind !== undefined).length !== 1) {
    throw new UsageError(
      "import needs one of --from, --from-attic and --from-attic-database",
      "Such as `flywheel import main --from https://cache.example.org --key example-1:… PATH`.",
    );
  }
  if (view === undefined && !options.allCaches) throw new UsageError("Into which VIEW?");
  if (view !== undefined && options.allCaches) {
    throw new UsageError("--all-caches takes no VIEW", "Each goes into the view of its own name.");
  }
  const isDatabase = options.fromAtticDatabase !== undefined;
  if (options.from !== undefined && options.key.length > 0 === options.unsigned) {
    throw new UsageError(
      "--from needs either --key or --unsigned",
      "With --key, what nobody trusted has signed is refused, as Nix does.",
    );
  }
  if (options.fromAttic !== undefined && options.cache === undefined) {
    throw new UsageError("--from-attic needs --cache NAME");
  }
  if (options.fromAttic !== undefined && options.all) {
    throw new UsageError(
      "An Attic server has no list of what it holds",
      "Give PATH… or --paths-from FILE, or import --from-attic-database.",
    );
  }
  if (isDatabase && options.storage === undefined) {
    throw new UsageError("--from-attic-database needs --storage DIR");
  }
  if (isDatabase && (options.cache === undefined) !== options.allCaches) {
    throw new UsageError("--from-attic-database needs either --cache NAME or --all-caches");
  }
  if (options.allCaches && !(isDatabase && options.all)) {
    throw new UsageError("--all-caches goes with --from-attic-database and --all");
  }
  if (options.withKeys && !isDatabase) {
    throw new UsageError(
      "--with-keys needs --from-attic-database: no server gives its secret away",
    );
  }
}

/** Opens what is imported. The caller closes it. */
export async function openOrigins(
  options: OriginValues,
  view: string | undefined,
  context: CliContext,
): Promise<{ readonly origins: readonly Origin[]; readonly close: () => PromiseLike<void> }> {
  const client = await import("@glorious/cache-client");
  const { signal } = context;
  const {
    sourceTokenFile,
    index,
    fromAttic,
    fromAtticDatabase,
    storage = "",
    cache = "",
  } = options;
  const token =
    sourceTokenFile === undefined ? undefined : await readTokenFile(sourceTokenFile, context);
  const given = options.key.length === 0 ? undefined : options.key;
  const name = view ?? "";
  if (fromAtticDatabase !== undefined) {
    const file = resolve(context.workingDirectory, fromAtticDatabase);
    const database = await client.openAtticDatabase(file);
    const caches = database.listCaches().filter((one) => options.allCaches || one.name === cache);
    const folder = resolve(context.workingDirectory, storage);
    // Even one that is not there: the database says so, and what there is.
    const names = caches.length === 0 ? [cache] : caches.map((one) => one.name);
    return {
      origins: names.map((one, position) => ({
        view: view ?? one,
        source: database.openSource(one, folder),
        ...caches[position],
      })),
      close: () => Promise.resolve(database[Symbol.dispose]()),
    };
  }
  if (fromAttic !== undefined) {
    const { source, config } = await client.openAtticSource({
      server: fromAttic,
      cache,
      token,
      keys: options.unsigned ? undefined : given,
      signal,
    });
    return {
      origins: [{ view: name, source, config }],
      close: () => source[Symbol.asyncDispose](),
    };
  }
  const source = await client.openSource({
    url: options.from ?? "",
    keys: given,
    token,
    index,
    signal,
  });
  return { origins: [{ view: name, source }], close: () => source[Symbol.asyncDispose]() };
}
