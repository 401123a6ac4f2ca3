import { access } from "node:fs/promises";
import { join } from "node:path";

import { CacheError } from "@glorious/core";
import {
  decompressNar,
  parseNarCompression,
  parseSha256Hex,
  parseStorePath,
  parseStorePathBaseName,
} from "@glorious/nix-store";
import * as v from "valibot";

import type { CacheConfig } from "../cache-config.ts";
import { systemCodeOf, toFileError } from "../file-error.ts";
import type { CacheSource, SourcePath } from "./cache-source.ts";
import { decodeXz } from "./decode-xz.ts";
import { readWhole } from "./folder-files.ts";

/** Hashes that are read from the database in one go. */
const HASHES_AT_ONCE = 1000;

/** A cache as an Attic server's database describes it. */
export interface AtticCache {
  readonly name: string;
  readonly config: CacheConfig;
  /** Secret: `<name>:<base64>`, what signs the cache. */
  readonly secretKey: string;
  /** By name; only some of Attic's descendants have any. */
  readonly pins: ReadonlyMap<string, string>;
}

/** An Attic server's SQLite database, read only. */
export interface AtticDatabase extends Disposable {
  /** Those that were not deleted, by name. */
  listCaches(): readonly AtticCache[];
  /**
   * What a cache holds. Its NARs come from the chunks below `storage`: the folder of a local storage, or a copy of the
   * bucket. Signatures are not looked at: the server made its own at each request, and kept those of its clients.
   *
   * @throws {CacheError} `NOT_FOUND` when there is no such cache.
   */
  openSource(cache: string, storage: string): CacheSource;
}

const CacheRow = v.object({
  id: v.number(),
  name: v.string(),
  keypair: v.string(),
  is_public: v.number(),
  store_dir: v.string(),
  priority: v.number(),
  upstream_cache_key_names: v.pipe(v.string(), v.parseJson(), v.array(v.string())),
  retention_period: v.nullish(v.number()),
});
const ObjectRow = v.object({
  store_path: v.string(),
  references: v.pipe(v.string(), v.parseJson(), v.array(v.string())),
  deriver: v.nullish(v.string()),
  sigs: v.pipe(v.string(), v.parseJson(), v.array(v.string())),
  ca: v.nullish(v.string()),
  nar_id: v.number(),
  state: v.string(),
  nar_hash: v.string(),
  nar_size: v.number(),
});
const ChunkRow = v.object({
  compression: v.nullish(v.string()),
  remote_file: v.nullish(
    v.pipe(
      v.string(),
      v.parseJson(),
      v.union([
        v.object({ Local: v.object({ name: v.string() }) }),
        v.object({ S3: v.object({ key: v.string() }) }),
      ]),
    ),
  ),
});

type Row = Readonly<Record<string, unknown>>;
type Query = (sql: string, ...values: readonly (string | number)[]) => Row[];

/**
 * Opens the database of an Attic server without changing it.
 *
 * @param file - Better a copy than the file of a running server.
 * @throws {CacheError} `NOT_FOUND` when there is no such file; `UNSUPPORTED` when it is no database of Attic's.
 */
export async function openAtticDatabase(file: string): Promise<AtticDatabase> {
  // SQLite says the same of a file that is not there as of one that is something else.
  await access(file).catch((error: unknown) => {
    throw toFileError(error, `The database ${file}`);
  });
  const { DatabaseSync } = await import("node:sqlite");
  const open = (): InstanceType<typeof DatabaseSync> => {
    try {
      return new DatabaseSync(file, { readOnly: true });
    } catch (cause) {
      throw new CacheError("NOT_FOUND", `The database ${file} cannot be opened`, { cause });
    }
  };
  const database = open();
  const query: Query = (sql, ...values) => {
    try {
      return database.prepare(sql).all(...values);
    } catch (cause) {
      throw new CacheError("UNSUPPORTED", `${file} is no database of an Attic server`, {
        cause,
        hint: "It is the SQLite file that `database.url` of the server's configuration names.",
      });
    }
  };
  try {
    query("SELECT 1 FROM chunkref LIMIT 1");
  } catch (error) {
    database.close();
    throw error;
  }
  const rows = (): v.InferOutput<typeof CacheRow>[] =>
    query("SELECT * FROM cache WHERE deleted_at IS NULL ORDER BY name").map((row) =>
      parse(CacheRow, row, `A cache of ${file}`),
    );
  return {
    listCaches: () => rows().map((row) => describeCache(row, query)),
    openSource: (cache, storage) => {
      const found = rows().find(({ name }) => name === cache);
      if (found === undefined) {
        throw new CacheError("NOT_FOUND", `${file} has no cache ${JSON.stringify(cache)}`, {
          hint: `It has ${
            rows()
              .map(({ name }) => name)
              .join(", ") || "none"
          }.`,
        });
      }
      return createSource({ file, query, storage, cache: found });
    },
    [Symbol.dispose]: () => database.close(),
  };
}

function describeCache(row: v.InferOutput<typeof CacheRow>, query: Query): AtticCache {
  const hasPins = query("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'pin'");
  const pins =
    hasPins.length === 0
      ? []
      : query("SELECT name, store_path FROM pin WHERE cache_id = ? ORDER BY name", row.id);
  return {
    name: row.name,
    config: {
      isPublic: row.is_public !== 0,
      storeDir: row.store_dir,
      priority: row.priority,
      upstreamCacheKeyNames: row.upstream_cache_key_names,
      retentionPeriod:
        typeof row.retention_period === "number" ? { seconds: row.retention_period } : "global",
    },
    secretKey: row.keypair,
    pins: new Map(pins.map((pin) => [String(pin["name"]), String(pin["store_path"])])),
  };
}

interface SourceOptions {
  readonly file: string;
  readonly query: Query;
  readonly storage: string;
  readonly cache: v.InferOutput<typeof CacheRow>;
}

function createSource({ file, query, storage, cache }: SourceOptions): CacheSource {
  const storeDir = cache.store_dir;
  const name = `the cache ${cache.name} in ${file}`;
  const find = (storePathHash: string): SourcePath | undefined => {
    const [row] = query(
      `SELECT o.store_path, o."references", o.deriver, o.sigs, o.ca, o.nar_id,
         n.state, n.nar_hash, n.nar_size
       FROM object AS o JOIN nar AS n ON n.id = o.nar_id
       WHERE o.cache_id = ? AND o.store_path_hash = ?`,
      cache.id,
      storePathHash,
    );
    return row === undefined ? undefined : toSourcePath(row, storePathHash, storeDir);
  };

  async function* read(
    { storePath, location }: SourcePath,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Buffer, void, undefined> {
    const chunks = query(
      `SELECT c.compression, c.remote_file FROM chunkref AS r LEFT JOIN chunk AS c ON c.id = r.chunk_id
       WHERE r.nar_id = ? ORDER BY r.seq`,
      Number(location),
    );
    for (const [index, raw] of chunks.entries()) {
      const what = `${storePath.path}: chunk ${index + 1} of ${chunks.length}`;
      const { compression, remote_file: remote } = parse(ChunkRow, raw, what);
      if (remote === null || remote === undefined) {
        throw new CacheError("NOT_FOUND", `${what} is not in the database any more`);
      }
      const known = parseNarCompression(compression === "brotli" ? "br" : (compression ?? ""));
      if (known === undefined) {
        throw new CacheError("UNSUPPORTED", `${what} is compressed as ${compression}`);
      }
      const bytes = readChunk(storage, remote, what, signal);
      for await (const piece of decompressNar(bytes, known, { xz: decodeXz, signal })) {
        // The decoder uses its piece again, and the reader of an uncompressed NAR keeps what it was given.
        yield Buffer.from(piece);
      }
    }
  }

  return {
    name,
    storeDir,
    find: (storePathHash) => Promise.resolve().then(() => find(storePathHash)),
    read,
    async *list() {
      for (let after = ""; ;) {
        const found = query(
          `SELECT store_path_hash FROM object WHERE cache_id = ? AND store_path_hash > ?
           ORDER BY store_path_hash LIMIT ?`,
          cache.id,
          after,
          HASHES_AT_ONCE,
        ).map((row) => String(row["store_path_hash"]));
        yield* found;
        const last = found.at(-1);
        if (last === undefined) return;
        after = last;
      }
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

function toSourcePath(raw: Row, storePathHash: string, storeDir: string): SourcePath {
  const row = parse(ObjectRow, raw, `The row of ${storePathHash}`);
  if (row.state !== "V") {
    throw new CacheError("NOT_FOUND", `The upload of ${row.store_path} was never finished`);
  }
  const storePath = parseStorePath(row.store_path, storeDir);
  return {
    storePath,
    narHash: parseSha256Hex(row.nar_hash),
    narSize: row.nar_size,
    references: row.references.map((name) => parseStorePathBaseName(name, storeDir).baseName),
    ...(row.deriver ? { deriver: row.deriver } : {}),
    ...(row.ca ? { ca: row.ca } : {}),
    signatures: row.sigs,
    // Chunks are decoded one by one: a concatenation of some of the compressions decodes nowhere.
    compression: "none",
    fileHash: undefined,
    fileSize: undefined,
    location: String(row.nar_id),
  };
}

async function* readChunk(
  storage: string,
  remote: { readonly Local: { readonly name: string } } | { readonly S3: { readonly key: string } },
  what: string,
  signal: AbortSignal | undefined,
): AsyncGenerator<Buffer, void, undefined> {
  const name = "Local" in remote ? remote.Local.name : remote.S3.key;
  // Only a bucket's keys have folders in them, where somebody has moved it below another.
  if (!/^(?:[A-Za-z0-9][A-Za-z0-9._-]*\/)*[A-Za-z0-9][A-Za-z0-9._-]*$/.test(name)) {
    throw new CacheError("CORRUPT", `${what} has a file name that is none`);
  }
  // Servers from before 2023 put all files into one folder; a bucket's copy has them by their keys.
  const places = [join(storage, name.slice(0, 1), name.slice(0, 2), name), join(storage, name)];
  for (const place of places) {
    let hasBegun = false;
    try {
      for await (const chunk of readWhole(place, signal)) {
        hasBegun = true;
        yield chunk;
      }
      return;
    } catch (error) {
      const cause = error instanceof CacheError ? error.cause : undefined;
      if (hasBegun || systemCodeOf(cause) !== "ENOENT") throw error;
    }
  }
  throw new CacheError("NOT_FOUND", `${what} is missing in ${storage}`);
}

function parse<Schema extends v.GenericSchema>(
  schema: Schema,
  row: Row,
  what: string,
): v.InferOutput<Schema> {
  const result = v.safeParse(schema, row);
  if (result.success) return result.output;
  const issue = result.issues[0];
  throw new CacheError("CORRUPT", `${what}: ${v.getDotPath(issue) ?? "it"}: ${issue.message}`);
}
