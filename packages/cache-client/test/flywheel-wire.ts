import { decodeZstd } from "@glorious/nix-store";
import * as v from "valibot";

import {
  sendJson,
  sha256Hex,
  startWire,
  type WireHandler,
  type WireRequest,
  type WireServer,
} from "./wire.ts";

const VIEW = "main";
const API = `/_flywheel/v1/views/${VIEW}/`;

const MissingRequest = v.object({
  paths: v.array(v.object({ storePathHash: v.string(), narHash: v.string() })),
  skipUpstream: v.boolean(),
});
const CommitRequest = v.object({
  paths: v.array(
    v.object({
      storePath: v.string(),
      narHash: v.string(),
      narSize: v.number(),
      fileHash: v.optional(v.string()),
      references: v.array(v.string()),
      deriver: v.optional(v.string()),
      ca: v.optional(v.string()),
      signatures: v.array(v.string()),
    }),
  ),
  externalReferences: v.array(v.string()),
});

/** A commit as the client sent it. */
export interface CommitBody {
  readonly paths: readonly {
    readonly storePath: string;
    readonly narHash: string;
    readonly narSize: number;
    readonly fileHash?: string | undefined;
    readonly references: readonly string[];
    readonly signatures: readonly string[];
  }[];
  readonly externalReferences: readonly string[];
}

/** What the fake of our server's wire has been told. */
export interface FlywheelWireState {
  /** NAR hash to the bytes as sent. */
  readonly nars: Map<string, Buffer>;
  /** Store path hash to NAR hash. */
  readonly paths: Map<string, string>;
  readonly commits: CommitBody[];
  /** Sizes of the questions. */
  readonly questions: number[];
  mostUploads: number;
}

export interface FlywheelWire extends WireServer {
  readonly state: FlywheelWireState;
}

export interface FlywheelWireOptions {
  /** Sees every request first; returns false to leave it to the fake. */
  readonly intercept?: WireHandler;
  readonly config?: Readonly<Record<string, unknown>>;
  readonly maxConcurrentUploads?: number;
  /** What an upstream of the view has: its name by store path hash. */
  readonly upstreamPaths?: ReadonlyMap<string, string>;
  /** More of what our server adds to the configuration. */
  readonly flywheel?: Readonly<Record<string, unknown>>;
}

/** Speaks our server's part of a push, strictly enough to notice a client that does not keep to it. */
export async function startFlywheelWire(options: FlywheelWireOptions = {}): Promise<FlywheelWire> {
  const state: FlywheelWireState = {
    nars: new Map(),
    paths: new Map(),
    commits: [],
    questions: [],
    mostUploads: 0,
  };
  let uploads = 0;
  const wire = await startWire(async (request, response) => {
    if (options.intercept !== undefined && (await options.intercept(request, response)) !== false)
      return;
    if (request.path === `/_api/v1/cache-config/${VIEW}`) {
      sendJson(response, 200, {
        store_dir: "/nix/store",
        upstream_cache_key_names: ["cache.nixos.org-1"],
        ...options.config,
        flywheel: {
          version: 1,
          api: `http://${request.headers.host}/_flywheel/v1/`,
          server: "0.0.0",
          maxConcurrentUploads: options.maxConcurrentUploads ?? 8,
          ...options.flywheel,
        },
      });
    } else if (request.path === `${API}missing`) {
      const { paths, skipUpstream } = v.parse(MissingRequest, await request.json());
      const inUpstreams = new Map(skipUpstream ? options.upstreamPaths : []);
      state.questions.push(paths.length);
      const missing = paths.filter(
        ({ storePathHash }) => !state.paths.has(storePathHash) && !inUpstreams.has(storePathHash),
      );
      sendJson(response, 200, {
        missingPaths: missing.map(({ storePathHash }) => storePathHash),
        missingNars: [
          ...new Set(missing.map(({ narHash }) => narHash).filter((hash) => !state.nars.has(hash))),
        ],
        upstreamPaths: [...inUpstreams].map(([storePathHash, upstream]) => ({
          storePathHash,
          upstream,
        })),
      });
    } else if (request.path.startsWith(`${API}nars/`)) {
      uploads += 1;
      state.mostUploads = Math.max(state.mostUploads, uploads);
      const [status, body] = await takeNar(state, request).finally(() => {
        uploads -= 1;
      });
      sendJson(response, status, body);
    } else if (request.path === `${API}closures`) {
      const commit = v.parse(CommitRequest, await request.json());
      const [status, body] = takeCommit(state, commit);
      sendJson(response, status, body);
    } else {
      sendJson(response, 404, {
        code: 404,
        error: "NOT_FOUND",
        message: `no route ${request.path}`,
      });
    }
  });
  return Object.assign(wire, { state });
}

type Answer = readonly [status: number, body: unknown];

async function takeNar(state: FlywheelWireState, request: WireRequest): Promise<Answer> {
  const narHash = request.path.split("/").at(-1) ?? "";
  const encoded = await request.body();
  const chunks: Buffer[] = [];
  for await (const chunk of decodeZstd(toChunks(encoded))) chunks.push(chunk);
  const nar = Buffer.concat(chunks);
  if (sha256Hex(nar) !== narHash || String(nar.length) !== request.query.get("size")) {
    return [422, { code: 422, error: "CORRUPT", message: "the NAR is not what was announced" }];
  }
  const kind = state.nars.has(narHash) ? "Deduplicated" : "Uploaded";
  state.nars.set(narHash, encoded);
  const fileHash = sha256Hex(encoded);
  return [200, { kind, narHash, narSize: nar.length, fileHash, fileSize: encoded.length }];
}

async function* toChunks(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes;
}

function takeCommit(state: FlywheelWireState, commit: CommitBody): Answer {
  state.commits.push(commit);
  const hashOf = (text: string): string => (text.split("/").at(-1) ?? "").slice(0, 32);
  const known = new Set([
    ...state.paths.keys(),
    ...commit.externalReferences,
    ...commit.paths.map(({ storePath }) => hashOf(storePath)),
  ]);
  const missingNars = commit.paths
    .map(({ narHash }) => narHash)
    .filter((hash) => !state.nars.has(hash));
  const missingReferences = commit.paths
    .flatMap(({ references }) => references.map(hashOf))
    .filter((hash) => !known.has(hash));
  if (missingNars.length + missingReferences.length > 0) {
    const message = "the closure is incomplete";
    return [409, { code: 409, error: "CONFLICT", message, missingNars, missingReferences }];
  }
  const created: string[] = [];
  const unchanged: string[] = [];
  const conflicts: { storePathHash: string; narHash: string }[] = [];
  for (const { storePath, narHash } of commit.paths) {
    const storePathHash = hashOf(storePath);
    const existing = state.paths.get(storePathHash);
    if (existing === undefined) {
      state.paths.set(storePathHash, narHash);
      created.push(storePathHash);
    } else if (existing === narHash) unchanged.push(storePathHash);
    else conflicts.push({ storePathHash, narHash: existing });
  }
  return [200, { created, unchanged, conflicts }];
}
