import { CacheError } from "@glorious/core";
import { isStorePathHash, parseSha256Hex, parseStorePathBaseName } from "@glorious/nix-store";
import * as v from "valibot";

import { authorOf, type CommitOptions, type PathToCommit } from "../commit/path-committer.ts";
import { parsePathManifest } from "../commit/path-manifest.ts";
import { readBody } from "../http/body.ts";
import type { Exchange } from "../http/exchange.ts";
import { readJsonBody } from "../http/json-body.ts";
import type { Route } from "../http/router.ts";
import { sendJson } from "../http/send.ts";
import type { CommitResult, ViewRecord } from "../index/cache-index.ts";
import { findMissingPaths } from "./missing-paths.ts";
import { formatReceipt, isSha256, requireSha256 } from "./nar-receipt.ts";
import type { RouteServices } from "./route-services.ts";
import { findInUpstreams } from "./upstream-presence.ts";

const MAX_JSON_BYTES = 64 * 2 ** 20;
const MAX_PATHS = 20_000;

const StorePathHash = v.pipe(v.string(), v.check(isStorePathHash, "Expected 32 nix32 characters"));
const Sha256 = v.pipe(
  v.string(),
  v.check(isSha256, "Expected a SHA-256 hash"),
  v.transform(parseSha256Hex),
);
const TOO_MANY = `Expected at most ${MAX_PATHS} in one request`;

const MissingRequest = v.object({
  paths: v.pipe(
    v.array(v.object({ storePathHash: StorePathHash, narHash: Sha256 })),
    v.maxLength(MAX_PATHS, TOO_MANY),
  ),
  skipUpstream: v.optional(v.boolean(), false),
});

const ClosureRequest = v.object({
  paths: v.pipe(
    v.array(
      v.object({
        storePath: v.string(),
        narHash: Sha256,
        narSize: v.number(),
        fileHash: v.optional(Sha256),
        references: v.array(v.string()),
        deriver: v.nullish(v.string()),
        system: v.nullish(v.string()),
        ca: v.nullish(v.string()),
        signatures: v.optional(v.array(v.string()), []),
      }),
    ),
    v.minLength(1, "Expected at least one path"),
    v.maxLength(MAX_PATHS, TOO_MANY),
  ),
  externalReferences: v.optional(v.array(StorePathHash), []),
});

/** Our own client's push: one question, encoded NARs in parallel, and one commit for the whole closure. */
export function flywheelPushRoutes(services: RouteServices): Route[] {
  const { index, gate, ingest, committer, limits } = services;

  const presenceOf = ({ caller, params }: Exchange): Promise<readonly number[]> =>
    gate.requirePresence(caller, params["view"] ?? "");

  const missing = async (exchange: Exchange): Promise<void> => {
    const presence = await presenceOf(exchange);
    const { paths, skipUpstream } = await readJsonBody(exchange, MissingRequest, {
      ...limits,
      maxSizeBytes: MAX_JSON_BYTES,
    });
    const absent = await findMissingPaths(
      services,
      presence,
      paths.map((path) => path.storePathHash),
    );
    const wanted = new Set(absent);
    const upstreamPaths = skipUpstream
      ? await findInUpstreams(
          services,
          exchange,
          exchange.params["view"] ?? "",
          paths.filter((path) => wanted.has(path.storePathHash)),
        )
      : [];
    for (const { storePathHash } of upstreamPaths) wanted.delete(storePathHash);
    const missingPaths = absent.filter((hash) => wanted.has(hash));
    const narHashes = paths
      .filter((path) => wanted.has(path.storePathHash))
      .map((path) => path.narHash);
    // Not made yet, an overlay holds nothing.
    const view = await index.findView(exchange.params["view"] ?? "");
    const missingNars =
      view === undefined
        ? [...new Set(narHashes)]
        : await index.findMissingNars(view.id, narHashes);
    sendJson(exchange, { missingPaths, missingNars, upstreamPaths });
  };

  const uploadNar = async (exchange: Exchange): Promise<void> => {
    const { caller, params, query, signal } = exchange;
    const view = await gate.requireUploadView(caller, params["view"] ?? "");
    const narHash = requireSha256(exchange.params["narHash"] ?? "");
    const narSize = requireNarSize(query.get("size"));
    const compression = query.get("compression") ?? "zstd";
    if (compression !== "zstd" && compression !== "none") {
      throw new CacheError("UNSUPPORTED", `The compression ${compression} is not accepted here`, {
        hint: "Send compression=zstd or compression=none.",
      });
    }
    const { kind, object } = await ingest.ingest({
      viewId: view.id,
      source: readBody(exchange, limits),
      compression,
      expected: { narHash, narSize },
      keepsFile: false,
      level: view.compressionLevel,
      signal,
    });
    sendJson(exchange, formatReceipt(kind, object));
  };

  /** The paths with the objects the view holds; NARs it does not hold are named in the refusal. */
  const preparePaths = async (
    view: ViewRecord,
    body: v.InferOutput<typeof ClosureRequest>,
  ): Promise<{ readonly paths: PathToCommit[]; readonly missingNars: string[] }> => {
    const external = new Set(body.externalReferences);
    const paths: PathToCommit[] = [];
    const missingNars = new Set<string>();
    for (const raw of body.paths) {
      const manifest = parsePathManifest(raw, view.storeDir);
      const existing = await index.findPath([view.id], manifest.storePathHash);
      const narHash = existing?.narHash ?? manifest.narHash;
      const holding = await index.findHolding(view.id, narHash);
      if (holding === undefined) {
        missingNars.add(manifest.narHash);
        continue;
      }
      if (holding.narHash === manifest.narHash && holding.narSize !== manifest.narSize) {
        throw new CacheError(
          "INVALID",
          `${manifest.storePath} is said to have ${manifest.narSize} bytes, its NAR has ${holding.narSize}`,
        );
      }
      const requiredReferences = manifest.references
        .map((reference) => parseStorePathBaseName(reference, view.storeDir).hash)
        .filter((hash) => !external.has(hash));
      paths.push({ manifest, object: holding, requiredReferences });
    }
    return { paths, missingNars: [...missingNars] };
  };

  const commitOptionsOf = async (exchange: Exchange): Promise<CommitOptions> => ({
    ...authorOf(exchange),
    presence: await presenceOf(exchange),
  });

  const commitClosure = async (exchange: Exchange): Promise<void> => {
    const view = await gate.requireWritableView(exchange.caller, exchange.params["view"] ?? "");
    const body = await readJsonBody(exchange, ClosureRequest, {
      ...limits,
      maxSizeBytes: MAX_JSON_BYTES,
    });
    const { paths, missingNars } = await preparePaths(view, body);
    const result: CommitResult =
      missingNars.length > 0
        ? { kind: "incomplete", missingNars, missingReferences: [] }
        : await committer.commit(view, paths, await commitOptionsOf(exchange));
    if (result.kind === "committed") {
      const { created, unchanged, conflicts } = result;
      sendJson(exchange, { created, unchanged, conflicts });
      return;
    }
    const { missingNars: nars, missingReferences } = result;
    sendJson(
      exchange,
      {
        code: 409,
        error: "CONFLICT",
        message:
          `The closure is incomplete: ${nars.length} NARs and ` +
          `${missingReferences.length} references are not in ${view.name}; nothing was committed`,
        hint: "Upload what is missing, or name references that others provide as externalReferences.",
        requestId: exchange.requestId,
        missingNars: nars,
        missingReferences,
      },
      { status: 409 },
    );
  };

  const base = "/_flywheel/v1/views/:view";
  return [
    { method: "POST", pattern: `${base}/missing`, family: "flywheel", handler: missing },
    { method: "PUT", pattern: `${base}/nars/:narHash`, family: "flywheel", handler: uploadNar },
    { method: "POST", pattern: `${base}/closures`, family: "flywheel", handler: commitClosure },
  ];
}

function requireNarSize(text: string | null): number {
  const size = /^\d{1,15}$/.test(text ?? "") ? Number(text) : 0;
  if (size > 0) return size;
  throw new CacheError(
    "INVALID",
    `The query's size ${JSON.stringify(text)} is no number of bytes`,
    {
      hint: "Give the size of the uncompressed NAR as ?size=.",
    },
  );
}
