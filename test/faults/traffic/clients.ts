import { request as httpRequest } from "node:http";

import {
  type AdminClient,
  createAdminClient,
  dumpStorePath,
  openCache,
  type PathInfo,
  type RetryPolicy,
} from "@glorious/cache-client";

import type { History } from "../history/history.ts";

/** Where clients send to; read anew for every request, since a restarted server may listen elsewhere. */
export interface Target {
  readonly url: string;
  readonly view: string;
  /** An administrator's. */
  readonly token: string;
}

export interface ClientOptions {
  /** How patient our own client is; by default it tries once. */
  readonly retry?: Partial<RetryPolicy> | undefined;
  /** A request without progress for so long is given up. Default 5000. */
  readonly idleTimeoutMs?: number;
  readonly signal?: AbortSignal | undefined;
}

/** Pushes a closure as `flywheel push` does. @throws what the client throws. */
export async function pushClosure(
  target: Target,
  paths: readonly PathInfo[],
  history: History,
  { retry = { maxAttempts: 1 }, idleTimeoutMs = 5000, signal }: ClientOptions = {},
): Promise<void> {
  await history.record({ kind: "push", paths, isAtomic: true }, async () => {
    const { url: server, view, token } = target;
    await using cache = await openCache({ server, view, token, retry, idleTimeoutMs, signal });
    const { conflicts } = await cache.push(paths, { upstreamKeyNames: [], signal });
    if (conflicts.length > 0) throw new Error("A made-up path is there with other contents");
  });
}

/** Pushes paths one by one as Attic's command line does, references first. */
export async function pushAttic(
  target: Target,
  paths: readonly PathInfo[],
  history: History,
  options: ClientOptions = {},
): Promise<void> {
  for (const path of paths) {
    await history.record({ kind: "push", paths: [path], isAtomic: false }, () =>
      putAtticPath(target, path, options),
    );
  }
}

export async function deletePath(
  target: Target,
  path: PathInfo,
  history: History,
  options: ClientOptions = {},
): Promise<void> {
  await history.record({ kind: "delete", path }, async () => {
    await using admin = openAdmin(target, options);
    await admin.deletePath(target.view, path.storePath.hash);
  });
}

/** Makes a token that may pull, and revokes it. */
export async function revokeToken(
  target: Target,
  history: History,
  options: ClientOptions = {},
): Promise<void> {
  await using admin = openAdmin(target, options);
  const { token, jti } = await admin.createToken({ caches: { "*": ["r"] } });
  await history.record({ kind: "revoke", token }, () => admin.revokeToken(jti));
}

export async function createView(
  target: Target,
  view: string,
  history: History,
  options: ClientOptions = {},
): Promise<void> {
  await history.record({ kind: "create-view", view }, async () => {
    await using admin = openAdmin(target, options);
    await admin.createView(view);
  });
}

function openAdmin(
  { url: server, token }: Target,
  { idleTimeoutMs = 5000 }: ClientOptions,
): AdminClient {
  return createAdminClient({ server, token, idleTimeoutMs });
}

async function putAtticPath(
  { url, view, token }: Target,
  path: PathInfo,
  { idleTimeoutMs = 5000 }: ClientOptions,
): Promise<void> {
  const narInfo = {
    cache: view,
    store_path_hash: path.storePath.hash,
    store_path: path.storePath.path,
    references: path.references,
    system: null,
    deriver: null,
    sigs: [],
    ca: null,
    nar_hash: `sha256:${path.narHash}`,
    nar_size: path.narSize,
  };
  const answered = Promise.withResolvers<void>();
  const request = httpRequest(new URL("_api/v1/upload-path", `${url}/`), {
    method: "PUT",
    agent: false,
    timeout: idleTimeoutMs,
    headers: {
      authorization: `bearer ${token}`,
      "x-attic-nar-info": JSON.stringify(narInfo),
      "transfer-encoding": "chunked",
    },
  });
  request.on("error", answered.reject);
  request.on("timeout", () => request.destroy(new Error("The upload stands still")));
  request.on("response", (response) => {
    const pieces: Buffer[] = [];
    response.on("data", (piece: Buffer) => pieces.push(piece));
    response.on("error", answered.reject);
    response.on("end", () => {
      const text = Buffer.concat(pieces).toString();
      if (response.statusCode === 200 && response.complete) answered.resolve();
      else answered.reject(new Error(`Attic's upload got ${response.statusCode}: ${text}`));
    });
  });
  const send = async (): Promise<void> => {
    for await (const chunk of dumpStorePath(path.realPath)) {
      if (request.destroyed) return;
      if (!request.write(chunk)) {
        await new Promise<void>((resolve) => {
          request.once("drain", resolve);
          request.once("close", resolve);
        });
      }
    }
    request.end();
  };
  await Promise.all([send(), answered.promise]);
}
