import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import {
  request as httpRequest,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
} from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";

import type { LogFields, Logger } from "@glorious/core";
import { type BlobStore, openFilesystemStore } from "@glorious/storage";
import { type CachePermission, signToken, type TokenClaims, type TokenKey } from "@glorious/trust";

import { bazelLimits, type BazelPlane, createBazelPlane } from "../src/bazel/bazel-plane.ts";
import { loadSettings } from "../src/config/load-settings.ts";
import type { SettingName } from "../src/config/settings.ts";
import type { CacheIndex, ViewRecord } from "../src/index/cache-index.ts";
import { openSqliteIndex } from "../src/index/sqlite-index.ts";
import { openSqliteChanges } from "../src/read-cache/index-changes.ts";
import { createView } from "../src/routes/attic-config.ts";
import { type ServerParts, startCacheServer } from "../src/server.ts";

/** A line that the server logged. */
export interface LogLine {
  readonly level: keyof Logger;
  readonly message: string;
  readonly fields: LogFields;
}

export interface TestAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  readonly text: string;
  /** The body as JSON. */
  json(): Record<string, unknown>;
}

export interface TestRequest {
  readonly headers?: OutgoingHttpHeaders;
  /** An iterable is sent chunked, without a Content-Length, as Attic's command line does. */
  readonly body?: string | Uint8Array | AsyncIterable<Uint8Array>;
  /** Sent as `authorization: bearer …`, in Attic's spelling. */
  readonly token?: string;
}

/** A real server on a free port with index and store in a directory of its own. */
export interface TestServer extends AsyncDisposable {
  readonly url: string;
  readonly directory: string;
  readonly index: CacheIndex;
  readonly store: BlobStore;
  readonly bazel: BazelPlane;
  readonly logs: readonly LogLine[];
  /** Moves the server's clock. */
  advance(durationMs: number): void;
  createView(name: string, options?: { readonly isPublic?: boolean }): Promise<ViewRecord>;
  token(
    caches: Readonly<Record<string, readonly CachePermission[]>>,
    claims?: Partial<TokenClaims>,
  ): Promise<string>;
  send(method: string, path: string, options?: TestRequest): Promise<TestAnswer>;
  /** Begins what disposing ends with: running requests finish. */
  stop(): Promise<void>;
}

/** What a test puts in place of the server's own. */
export interface TestParts extends Pick<ServerParts, "timings" | "viewPolicy"> {
  /** The store that the server gets; `TestServer.store` stays the one below it. */
  readonly wrapStore?: (store: BlobStore) => BlobStore;
  /** The same for the index. */
  readonly wrapIndex?: (index: CacheIndex) => CacheIndex;
  /** Of a server that was there before, or of another replica; by default a new one that goes with the server. */
  readonly directory?: string;
  /** Signs and verifies tokens; default an HS256 key. */
  readonly tokenKey?: TokenKey;
}

export async function startTestServer(
  settings: Partial<Record<SettingName, string>> = {},
  {
    timings = {},
    viewPolicy,
    wrapStore = (store) => store,
    wrapIndex = (index) => index,
    directory: given,
    tokenKey: key = { algorithm: "HS256", secret: randomBytes(64) },
  }: TestParts = {},
): Promise<TestServer> {
  await using opened = new AsyncDisposableStack();
  const directory = given ?? (await mkdtemp(join(tmpdir(), "cache-server-test-")));
  opened.defer(async () => {
    if (given === undefined) await rm(directory, { recursive: true, force: true });
  });
  const logs: LogLine[] = [];
  let offsetMs = 0;
  const now = (): number => Date.now() + offsetMs;
  const index = opened.use(
    await openSqliteIndex({ file: join(directory, "index.sqlite"), synchronous: "off" }),
  );
  const indexChanges = opened.use(openSqliteChanges(join(directory, "index.sqlite")));
  const store = opened.use(
    await openFilesystemStore({ directory: join(directory, "store"), fsync: "none" }),
  );
  const loaded = await loadSettings({
    environment: {},
    flags: Object.fromEntries(
      Object.entries({ listen: "127.0.0.1:0", ...settings }).map(([name, value]) => [
        name,
        { flag: name, value },
      ]),
    ),
  });
  const bazel = opened.use(
    createBazelPlane({
      directory: join(directory, "tenants"),
      index,
      limits: bazelLimits(loaded),
      fsync: "none",
      logger: recordingLogger(logs),
      now,
      recordsReads: loaded.recordReads,
      provenanceMaxAgeMs: loaded.provenanceMaxAgeMs,
    }),
  );
  const server = opened.use(
    await startCacheServer({
      settings: loaded,
      bazel,
      index: wrapIndex(index),
      indexChanges,
      store: wrapStore(store),
      overlaySecret: randomBytes(32),
      tokenKeys: { keys: [key], signing: key },
      logger: recordingLogger(logs),
      now,
      timings,
      viewPolicy,
      spoolDirectory: join(directory, "upstream"),
    }),
  );
  const owned = opened.move();
  return {
    url: server.url,
    directory,
    index,
    store,
    bazel,
    logs,
    advance(durationMs) {
      offsetMs += durationMs;
    },
    createView(name, { isPublic = false } = {}) {
      return createView(
        { index, now },
        { name, isPublic, storeDir: "/nix/store", priority: 41, upstreamCacheKeyNames: [] },
      );
    },
    token(caches, claims = {}) {
      return signToken(key, {
        subject: "tester",
        expiresAtMs: now() + 3_600_000,
        caches: Object.entries(caches).map(([pattern, granted]) => [pattern, new Set(granted)]),
        isAdmin: false,
        ...claims,
      });
    },
    send: (method, path, options = {}) => send(server.url, method, path, options),
    stop: () => server.close(),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function recordingLogger(logs: LogLine[]): Logger {
  const write =
    (level: keyof Logger) =>
    (message: string, fields: LogFields = {}): void => {
      logs.push({ level, message, fields });
    };
  return { debug: write("debug"), info: write("info"), warn: write("warn"), error: write("error") };
}

/** Sends exactly the headers and path given: no client library tidies them up. */
function send(
  url: string,
  method: string,
  path: string,
  { headers = {}, body, token }: TestRequest = {},
): Promise<TestAnswer> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      {
        hostname,
        port,
        method,
        path,
        agent: false,
        headers: {
          ...headers,
          ...(token === undefined ? {} : { authorization: `bearer ${token}` }),
        },
      },
      (response) => {
        const pieces: Buffer[] = [];
        response.on("data", (piece: Buffer) => pieces.push(piece));
        response.on("error", reject);
        response.on("end", () => {
          const bytes = Buffer.concat(pieces);
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: bytes,
            text: bytes.toString("utf8"),
            json: () => JSON.parse(bytes.toString("utf8")) as Record<string, unknown>,
          });
        });
      },
    );
    request.on("error", reject);
    void writeBody(request, body).catch(reject);
  });
}

async function writeBody(
  request: ReturnType<typeof httpRequest>,
  body: TestRequest["body"],
): Promise<void> {
  if (typeof body === "object" && Symbol.asyncIterator in body) {
    request.flushHeaders();
    for await (const piece of body) {
      if (request.destroyed) return;
      if (!request.write(piece)) {
        await new Promise<void>((resolve) => {
          const goOn = (): void => {
            request.off("drain", goOn);
            request.off("close", goOn);
            resolve();
          };
          request.on("drain", goOn);
          request.on("close", goOn);
        });
      }
    }
    request.end();
    return;
  }
  request.end(body);
}

export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}
