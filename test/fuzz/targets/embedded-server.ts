import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { connect } from "node:net";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { startEmbedded } from "@glorious/cache-server";
import type { LogFields, Logger } from "@glorious/core";
import { encodeNix32, writeNar } from "@glorious/nix-store";
import { createTemporaryDirectory } from "@glorious/testkit";

import { Finding } from "../fuzz-target.ts";

/** A made-up path with its NAR. */
export interface SamplePath {
  readonly storePathHash: string;
  readonly storePath: string;
  readonly nar: Buffer;
  /** Hexadecimal. */
  readonly narHash: string;
}

/** A server in this process, so that coverage sees it, with a public view `main` that holds one path. */
export interface EmbeddedServer extends AsyncDisposable {
  readonly port: number;
  readonly url: string;
  /** An administrator's. */
  readonly token: string;
  readonly path: SamplePath;
  /**
   * Sends bytes as they are, and gives all that comes back until the server is done with the connection.
   *
   * @param quietMs Ends this side after such a pause, for bytes that may be no whole request. A server may then
   * close without an answer.
   */
  exchange(bytes: Buffer, quietMs?: number): Promise<Buffer>;
  /** Makes the view and its path again when they are gone. */
  restore(): Promise<void>;
  /** @throws {Finding} for what the server logged as its own fault since the last call. */
  requireCalm(): void;
}

/** Without an answer for so long the server has forgotten the connection. */
const HANG_MS = 10_000;

export async function startEmbeddedServer(): Promise<EmbeddedServer> {
  await using resources = new AsyncDisposableStack();
  const temporary = resources.use(await createTemporaryDirectory("flywheel-fuzz-server-"));
  const faults: string[] = [];
  const note = (message: string, fields: LogFields = {}): void => {
    const error = fields["error"];
    faults.push(`${message}: ${error instanceof Error ? (error.stack ?? error.message) : ""}`);
  };
  const silent = (): void => {};
  const logger: Logger = { debug: silent, info: silent, warn: silent, error: note };
  const onUncaught = (error: unknown): void => note("uncaught", { error });
  process.on("uncaughtException", onUncaught);
  process.on("unhandledRejection", onUncaught);
  resources.defer(() => {
    process.off("uncaughtException", onUncaught);
    process.off("unhandledRejection", onUncaught);
  });
  const plane = resources.use(
    await startEmbedded({
      environment: {
        FLYWHEEL_DATA: path.join(temporary.path, "data"),
        FLYWHEEL_LISTEN: "127.0.0.1:0",
        FLYWHEEL_STORE_FSYNC: "none",
        FLYWHEEL_LIMITS_IDLE_TIMEOUT: "2s",
      },
      isPublic: true,
      logger,
    }),
  );
  const token = (await readFile(plane.tokenFile, "utf8")).trim();
  const sample = await createSamplePath("sample", "a sample of some text ".repeat(40));
  await putSample(plane.url, token, sample);
  const port = Number(new URL(plane.url).port);
  const restore = async (): Promise<void> => {
    const found = await fetch(`${plane.url}/main/${sample.storePathHash}.narinfo`);
    if (found.status === 200) return;
    // Refused when only the path is gone.
    await fetch(`${plane.url}/_api/v1/cache-config/main`, {
      method: "POST",
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      body: JSON.stringify({
        keypair: "Generate",
        is_public: true,
        store_dir: "/nix/store",
        priority: 41,
        upstream_cache_key_names: [],
      }),
    });
    await putSample(plane.url, token, sample).catch(() => {});
  };
  const owned = resources.move();
  return {
    port,
    url: plane.url,
    token,
    path: sample,
    exchange: (bytes, quietMs) => exchange(port, bytes, quietMs),
    restore,
    requireCalm() {
      const fault = faults.pop();
      faults.length = 0;
      if (fault !== undefined) throw new Finding(`The server logged ${fault}`);
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

export async function createSamplePath(name: string, contents: string): Promise<SamplePath> {
  const bytes = Buffer.from(contents);
  const sizeBytes = bytes.length;
  const entry = {
    type: "regular",
    path: [],
    executable: false,
    sizeBytes,
    contents: [bytes],
  } as const;
  const nar = Buffer.concat(await Array.fromAsync(writeNar([entry])));
  const storePathHash = encodeNix32(createHash("sha256").update(name).digest().subarray(0, 20));
  return {
    storePathHash,
    storePath: `/nix/store/${storePathHash}-${name}`,
    nar,
    narHash: createHash("sha256").update(nar).digest("hex"),
  };
}

/** The JSON of Attic's upload. */
export function atticNarInfo({ storePathHash, storePath, narHash, nar }: SamplePath): string {
  return JSON.stringify({
    cache: "main",
    store_path_hash: storePathHash,
    store_path: storePath,
    references: [],
    system: null,
    deriver: null,
    sigs: [],
    ca: null,
    nar_hash: `sha256:${narHash}`,
    nar_size: nar.length,
  });
}

async function putSample(url: string, token: string, sample: SamplePath): Promise<void> {
  const response = await fetch(`${url}/_api/v1/upload-path`, {
    method: "PUT",
    headers: { authorization: `Bearer ${token}`, "x-attic-nar-info": atticNarInfo(sample) },
    body: new Uint8Array(sample.nar),
  });
  if (!response.ok) throw new Error(`The sample was refused: ${await response.text()}`);
}

async function exchange(port: number, bytes: Buffer, quietMs?: number): Promise<Buffer> {
  const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  const pieces: Buffer[] = [];
  const closed = Promise.withResolvers<void>();
  let quiet: NodeJS.Timeout | undefined;
  const waitForQuiet = (): void => {
    clearTimeout(quiet);
    if (quietMs !== undefined) quiet = setTimeout(() => socket.end(), quietMs);
  };
  socket.on("data", (piece) => {
    pieces.push(piece);
    waitForQuiet();
  });
  socket.on("end", () => socket.end());
  // A server may close while we still send.
  socket.on("error", () => {});
  socket.on("close", () => closed.resolve());
  socket.write(bytes, waitForQuiet);
  const deadline = new AbortController();
  const hang = sleep(HANG_MS, "hang" as const, { signal: deadline.signal }).catch(() => undefined);
  const outcome = await Promise.race([closed.promise, hang]);
  clearTimeout(quiet);
  deadline.abort();
  socket.destroy();
  if (outcome === "hang") throw new Finding("The server answers nothing and keeps the connection");
  return Buffer.concat(pieces);
}

/** The statuses of all answers in a stream of them, as far as they can be told. */
export function readStatuses(answer: Buffer): number[] {
  const text = answer.toString("latin1");
  const matches = text.matchAll(/HTTP\/1\.1 (\d{3}) [^\r\n]*\r\n/g);
  return [...matches].map(([, status]) => Number(status));
}

/** The head and body of the first final answer. */
export function readAnswer(answer: Buffer):
  | {
      readonly status: number;
      readonly headers: ReadonlyMap<string, string>;
      readonly body: Buffer;
    }
  | undefined {
  let rest = answer;
  for (;;) {
    const end = rest.indexOf("\r\n\r\n");
    if (end < 0) return undefined;
    const [first = "", ...lines] = rest.toString("latin1", 0, end).split("\r\n");
    rest = rest.subarray(end + 4);
    const status = Number(first.split(" ")[1]);
    if (status < 200) continue;
    const headers = new Map(
      lines.map((line) => {
        const colon = line.indexOf(":");
        return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
      }),
    );
    return { status, headers, body: rest };
  }
}
