import { spawn } from "node:child_process";
import { createHash, randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdir, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { DatabaseSync } from "node:sqlite";
import { buffer } from "node:stream/consumers";
import { promisify } from "node:util";
import { brotliCompress, zstdCompress } from "node:zlib";

/** How a chunk lies in the storage. `xz` needs the program of that name. */
export type AtticCompression = "zstd" | "br" | "xz" | "none";

/** How the server was configured. */
export interface AtticServerDataOptions {
  /** `bucket`: the storage is a copy of an S3 bucket, as `aws s3 sync` or `rclone` make it. Default `folder`. */
  readonly storage?: "folder" | "bucket";
}

/** A cache to be added. */
export interface AtticCacheData {
  readonly name: string;
  /** `<name>:<base64 of 64 bytes>`. */
  readonly keypair: string;
  readonly isPublic?: boolean;
  readonly priority?: number;
  readonly upstreamCacheKeyNames?: readonly string[];
  readonly retentionSeconds?: number;
  readonly isDeleted?: boolean;
}

/** A path to be added. */
export interface AtticPathData {
  readonly storePath: string;
  readonly nar: Uint8Array;
  /** Base names. */
  readonly references?: readonly string[];
  readonly signatures?: readonly string[];
  readonly ca?: string;
  /** Default zstd, in chunks of at most 64 KiB. */
  readonly compression?: AtticCompression;
  readonly chunkBytes?: number;
  /** An upload that was never finished. */
  readonly isPending?: boolean;
}

/** A database and a storage as an Attic server of version 0.1.0 leaves them behind, without the server. */
export interface AtticServerData extends Disposable {
  readonly databaseFile: string;
  readonly storage: string;
  addCache(cache: AtticCacheData): void;
  /** Returns the files of its chunks, in order. */
  addPath(cache: string, data: AtticPathData): Promise<string[]>;
  /** Forgets that chunk, as the server's own clean-up does: the NAR then has a hole. */
  forgetChunk(file: string): Promise<void>;
  /** A table that descendants of Attic have. */
  addPin(cache: string, name: string, storePath: string): void;
}

/** What its migrations make of an empty SQLite file, indexes left out. */
const SCHEMA = `
  CREATE TABLE cache (
    id integer NOT NULL PRIMARY KEY AUTOINCREMENT, name varchar(50) NOT NULL UNIQUE, keypair varchar NOT NULL,
    is_public boolean NOT NULL, store_dir varchar NOT NULL, priority integer NOT NULL,
    upstream_cache_key_names varchar NOT NULL, created_at timestamp_with_timezone_text NOT NULL,
    deleted_at timestamp_with_timezone_text NULL, retention_period integer NULL);
  CREATE TABLE nar (
    id integer NOT NULL PRIMARY KEY AUTOINCREMENT, state char(1) NOT NULL, nar_hash varchar NOT NULL,
    nar_size bigint NOT NULL, compression varchar NOT NULL, num_chunks integer NOT NULL DEFAULT 1,
    holders_count integer NOT NULL DEFAULT 0, created_at timestamp_with_timezone_text NOT NULL,
    completeness_hint boolean NOT NULL DEFAULT TRUE);
  CREATE TABLE object (
    id integer NOT NULL PRIMARY KEY AUTOINCREMENT, cache_id bigint NOT NULL, nar_id bigint NOT NULL,
    store_path_hash varchar(32) NOT NULL, store_path varchar NOT NULL, "references" varchar NOT NULL,
    system varchar, deriver varchar, sigs varchar NOT NULL, ca varchar,
    created_at timestamp_with_timezone_text NOT NULL, last_accessed_at timestamp_with_timezone_text NULL,
    created_by varchar NULL,
    FOREIGN KEY (cache_id) REFERENCES cache (id) ON DELETE CASCADE,
    FOREIGN KEY (nar_id) REFERENCES nar (id) ON DELETE CASCADE);
  CREATE UNIQUE INDEX "idx-object-cache-hash" ON object (cache_id, store_path_hash);
  CREATE TABLE chunk (
    id integer NOT NULL PRIMARY KEY AUTOINCREMENT, state char(1) NOT NULL, chunk_hash varchar NOT NULL,
    chunk_size bigint NOT NULL, file_hash varchar NULL, file_size bigint NULL, compression varchar NOT NULL,
    remote_file varchar NOT NULL, remote_file_id varchar NOT NULL UNIQUE,
    holders_count integer NOT NULL DEFAULT 0, created_at timestamp_with_timezone_text NOT NULL);
  CREATE TABLE chunkref (
    id integer NOT NULL PRIMARY KEY AUTOINCREMENT, nar_id bigint NOT NULL, seq integer NOT NULL,
    chunk_id bigint NULL, chunk_hash varchar NOT NULL, compression varchar NOT NULL,
    FOREIGN KEY (chunk_id) REFERENCES chunk (id) ON DELETE SET NULL,
    FOREIGN KEY (nar_id) REFERENCES nar (id) ON DELETE CASCADE);`;

const CREATED_AT = "2026-06-26T12:00:00.000000+00:00";
const DEFAULT_CHUNK_BYTES = 64 * 1024;
const ENCODERS: Readonly<Record<AtticCompression, (chunk: Uint8Array) => Promise<Uint8Array>>> = {
  zstd: promisify(zstdCompress),
  br: promisify(brotliCompress),
  xz: encodeXz,
  none: (chunk) => Promise.resolve(chunk),
};

/**
 * Makes the data of an Attic server by its published schema: no server can be had where tests run. The NARs are cut
 * at fixed sizes, not by content, which readers do not notice.
 */
export async function createAtticServerData(
  folder: string,
  options: AtticServerDataOptions = {},
): Promise<AtticServerData> {
  const isBucket = options.storage === "bucket";
  const databaseFile = path.join(folder, "server.db");
  const storage = path.join(folder, "storage");
  await mkdir(storage, { recursive: true });
  if (!isBucket) await writeFile(path.join(storage, "VERSION"), "1");
  const database = new DatabaseSync(databaseFile);
  database.exec(SCHEMA);

  const insert = (table: string, row: Readonly<Record<string, string | number | null>>): number => {
    const names = Object.keys(row).map((name) => `"${name}"`);
    const sql = `INSERT INTO ${table} (${names.join(", ")}) VALUES (${names.map(() => "?").join(", ")})`;
    return Number(database.prepare(sql).run(...Object.values(row)).lastInsertRowid);
  };
  const idOf = (cache: string): number =>
    Number(database.prepare("SELECT id FROM cache WHERE name = ?").get(cache)?.["id"]);

  const addChunk = async (
    chunk: Uint8Array,
    compression: AtticCompression,
  ): Promise<[number, string]> => {
    const name = `${randomUUID()}.chunk`;
    const file = isBucket
      ? path.join(storage, name)
      : path.join(storage, name.slice(0, 1), name.slice(0, 2), name);
    const bytes = await ENCODERS[compression](chunk);
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(file, bytes);
    const id = insert("chunk", {
      state: "V",
      chunk_hash: sha256(chunk),
      chunk_size: chunk.length,
      file_hash: sha256(bytes),
      file_size: bytes.length,
      compression,
      remote_file: JSON.stringify(
        isBucket
          ? { S3: { region: "us-east-1", bucket: "attic", key: name } }
          : { Local: { name } },
      ),
      remote_file_id: isBucket ? `s3:us-east-1/attic/${name}` : `local:${name}`,
      created_at: CREATED_AT,
    });
    return [id, file];
  };

  return {
    databaseFile,
    storage,
    addCache: (cache) => {
      insert("cache", {
        name: cache.name,
        keypair: cache.keypair,
        is_public: cache.isPublic === true ? 1 : 0,
        store_dir: "/nix/store",
        priority: cache.priority ?? 41,
        upstream_cache_key_names: JSON.stringify(cache.upstreamCacheKeyNames ?? []),
        created_at: CREATED_AT,
        deleted_at: cache.isDeleted === true ? CREATED_AT : null,
        retention_period: cache.retentionSeconds ?? null,
      });
    },
    addPath: async (cache, data) => {
      const { nar, compression = "zstd", chunkBytes = DEFAULT_CHUNK_BYTES } = data;
      const chunks: [number, string, string][] = [];
      for (let start = 0; start < nar.length; start += chunkBytes) {
        const chunk = nar.subarray(start, start + chunkBytes);
        chunks.push([...(await addChunk(chunk, compression)), sha256(chunk)]);
      }
      const narId = insert("nar", {
        state: data.isPending === true ? "P" : "V",
        nar_hash: sha256(nar),
        nar_size: nar.length,
        compression,
        num_chunks: chunks.length,
        created_at: CREATED_AT,
      });
      for (const [seq, [chunkId, , hash]] of chunks.entries()) {
        insert("chunkref", {
          nar_id: narId,
          seq,
          chunk_id: chunkId,
          chunk_hash: hash,
          compression,
        });
      }
      insert("object", {
        cache_id: idOf(cache),
        nar_id: narId,
        store_path_hash: path.basename(data.storePath).slice(0, 32),
        store_path: data.storePath,
        references: JSON.stringify(data.references ?? []),
        sigs: JSON.stringify(data.signatures ?? []),
        ca: data.ca ?? null,
        created_at: CREATED_AT,
      });
      return chunks.map(([, file]) => file);
    },
    forgetChunk: async (file) => {
      database
        .prepare("DELETE FROM chunk WHERE remote_file_id IN (?, ?)")
        .run(`local:${path.basename(file)}`, `s3:us-east-1/attic/${path.basename(file)}`);
      await rm(file);
    },
    addPin: (cache, name, storePath) => {
      database.exec(`CREATE TABLE IF NOT EXISTS pin (
        id integer NOT NULL PRIMARY KEY AUTOINCREMENT, name varchar(50) NOT NULL, cache_id bigint NOT NULL,
        store_path_hash varchar(32) NOT NULL, store_path varchar NOT NULL)`);
      const hash = path.basename(storePath).slice(0, 32);
      insert("pin", { name, cache_id: idOf(cache), store_path_hash: hash, store_path: storePath });
    },
    [Symbol.dispose]: () => database.close(),
  };
}

/** At the level that Attic has by default; Node cannot write it. */
async function encodeXz(chunk: Uint8Array): Promise<Uint8Array> {
  const child = spawn("xz", ["-2", "--stdout"], { stdio: ["pipe", "pipe", "inherit"] });
  child.stdin.end(chunk);
  const [bytes] = await Promise.all([buffer(child.stdout), once(child, "exit")]);
  return bytes;
}

function sha256(bytes: Uint8Array): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}
