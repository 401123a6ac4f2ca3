import { CacheError } from "@glorious/core";
import { isStorePathHash } from "@glorious/nix-store";
import * as v from "valibot";

import { authorOf } from "../commit/path-committer.ts";
import { parsePathManifest, type PathManifest } from "../commit/path-manifest.ts";
import { AtticError } from "../http/attic-error.ts";
import { readBody } from "../http/body.ts";
import type { Exchange } from "../http/exchange.ts";
import { parseJson, readJsonBody } from "../http/json-body.ts";
import type { Route } from "../http/router.ts";
import { sendJson } from "../http/send.ts";
import { findMissingPaths } from "./missing-paths.ts";
import type { RouteServices } from "./route-services.ts";
import { splitPreamble, takeBytes } from "./upload-framing.ts";
import { findInUpstreams } from "./upstream-presence.ts";

/** Attic's own bound for a JSON body. */
const MAX_JSON_BYTES = 2 * 1000 * 1000;

const MissingPathsRequest = v.object({
  cache: v.string(),
  /** Ours, not Attic's. */
  skip_upstream: v.optional(v.boolean(), true),
  store_path_hashes: v.array(
    v.pipe(v.string(), v.check(isStorePathHash, "Expected 32 nix32 characters")),
  ),
});

const UploadPathNarInfo = v.object({
  cache: v.string(),
  store_path_hash: v.pipe(v.string(), v.check(isStorePathHash, "Expected 32 nix32 characters")),
  store_path: v.string(),
  references: v.array(v.string()),
  system: v.nullish(v.string()),
  deriver: v.nullish(v.string()),
  sigs: v.array(v.string()),
  ca: v.nullish(v.string()),
  nar_hash: v.pipe(
    v.string(),
    v.regex(/^sha256:([0-9a-fA-F]{64}|[0-9a-z]{52})$/, "Expected sha256: and 64 hex or 52 nix32"),
  ),
  nar_size: v.pipe(v.number(), v.integer(), v.minValue(0)),
});

/** Attic's push protocol: what is missing, and one upload for each path. */
export function atticPushRoutes(services: RouteServices): Route[] {
  const { gate, ingest, committer, limits } = services;

  const getMissingPaths = async (exchange: Exchange): Promise<void> => {
    const body = await readJsonBody(exchange, MissingPathsRequest, {
      ...limits,
      maxSizeBytes: MAX_JSON_BYTES,
    });
    const chain = await gate.requirePresence(exchange.caller, body.cache);
    const missing = await findMissingPaths(services, chain, body.store_path_hashes);
    const inUpstreams = await findInUpstreams(
      services,
      exchange,
      body.cache,
      body.skip_upstream ? missing.map((storePathHash) => ({ storePathHash })) : [],
    );
    const upstreamPaths = new Set(inUpstreams.map(({ storePathHash }) => storePathHash));
    sendJson(exchange, {
      missing_paths: missing.filter((hash) => !upstreamPaths.has(hash)),
      ...(upstreamPaths.size === 0 ? {} : { upstream_paths: [...upstreamPaths] }),
    });
  };

  const uploadPath = async (exchange: Exchange): Promise<void> => {
    const body = readBody(exchange, limits);
    try {
      await takeUpload(exchange, body);
    } finally {
      // A reader that was left in the middle would keep the rest from being dropped.
      await body.return(undefined);
    }
  };

  const takeUpload = async (exchange: Exchange, body: AsyncGenerator<Buffer>): Promise<void> => {
    const { signal, caller } = exchange;
    const { text, rest } = await readUploadHead(exchange, body, limits.maxNarInfoSizeBytes);
    const head = parseJson(text, UploadPathNarInfo, "The upload's NAR info");
    const view = await gate.requireUploadView(caller, head.cache);
    exchange.viewName = view.name;
    const manifest = toManifest(head, view.storeDir);
    await committer.requireNoConflict(view, manifest);
    const { kind, object } = await ingest.ingest({
      viewId: view.id,
      // Attic reads just as many bytes as it was told of, whatever follows.
      source: takeBytes(rest, manifest.narSize),
      compression: "none",
      expected: manifest,
      keepsFile: false,
      level: view.compressionLevel,
      signal,
    });
    await committer.commitOne(
      view,
      { manifest, object, requiredReferences: [] },
      authorOf(exchange),
    );
    sendJson(exchange, {
      kind: kind === "uploaded" ? "Uploaded" : "Deduplicated",
      ...(kind === "uploaded" ? { file_size: object.fileSize } : {}),
      frac_deduplicated: null,
    });
  };

  return [
    {
      method: "POST",
      pattern: "/_api/v1/get-missing-paths",
      family: "attic",
      handler: getMissingPaths,
    },
    { method: "PUT", pattern: "/_api/v1/upload-path", family: "attic", handler: uploadPath },
  ];
}

/** The upload's JSON from its header or from the front of its body, and the NAR behind it. */
async function readUploadHead(
  { request }: Exchange,
  body: AsyncGenerator<Buffer>,
  maxSizeBytes: number,
): Promise<{ readonly text: string; readonly rest: AsyncIterable<Buffer> }> {
  const preamble = request.headers["x-attic-nar-info-preamble-size"];
  if (preamble !== undefined) {
    const sizeBytes = /^\d{1,15}$/.test(String(preamble)) ? Number(preamble) : Number.NaN;
    if (!Number.isSafeInteger(sizeBytes)) {
      throw new CacheError("INVALID", "X-Attic-Nar-Info-Preamble-Size is not a number of bytes");
    }
    if (sizeBytes > maxSizeBytes) {
      throw new AtticError(
        "RequestError",
        "TOO_LARGE",
        `The preamble of ${sizeBytes} bytes is larger than the ${maxSizeBytes} allowed here`,
        { status: 400 },
      );
    }
    const { head, rest } = await splitPreamble(body, sizeBytes);
    return { text: head.toString("utf8"), rest };
  }
  const header = request.headers["x-attic-nar-info"];
  if (header === undefined) {
    throw new CacheError("INVALID", "X-Attic-Nar-Info must be set", {
      hint: "Send the path's JSON in that header, or in front of the NAR with X-Attic-Nar-Info-Preamble-Size.",
    });
  }
  // Node reads header bytes as Latin-1; clients write UTF-8.
  return { text: Buffer.from(String(header), "latin1").toString("utf8"), rest: body };
}

function toManifest(head: v.InferOutput<typeof UploadPathNarInfo>, storeDir: string): PathManifest {
  const manifest = parsePathManifest(
    {
      storePath: head.store_path,
      narHash: head.nar_hash,
      narSize: head.nar_size,
      references: head.references,
      deriver: head.deriver,
      ca: head.ca,
      system: head.system,
      signatures: head.sigs,
    },
    storeDir,
  );
  if (manifest.storePathHash !== head.store_path_hash) {
    throw new CacheError(
      "INVALID",
      `The store path ${manifest.storePath} does not have the hash ${head.store_path_hash}`,
    );
  }
  return manifest;
}
