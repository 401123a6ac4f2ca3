import { promisify } from "node:util";
import { brotliDecompress, gunzip, zstdDecompress } from "node:zlib";

import { CacheError } from "@glorious/core";
import {
  formatHash,
  type NarInfo,
  parseNarInfo,
  parseNarListing,
  parseNixCacheInfo,
  sha256HexToNix32,
} from "@glorious/nix-store";

import { authorOf } from "../commit/path-committer.ts";
import { parsePathManifest } from "../commit/path-manifest.ts";
import { collectBody, readBody, requireDeclaredSize } from "../http/body.ts";
import type { Exchange, Handler } from "../http/exchange.ts";
import type { Route } from "../http/router.ts";
import { sendEmpty } from "../http/send.ts";
import type { DocumentKind, ObjectRecord, ViewRecord } from "../index/cache-index.ts";
import {
  compressionsOfExtension,
  detectCompression,
  parseCompression,
} from "../ingest/nar-decoder.ts";
import { requireDebugInfo } from "./debug-info-body.ts";
import { findNarFileName, parseNarFileName, requireStorePathHash } from "./nix-files.ts";
import { buildTraceName, nameParam } from "./nix-read.ts";
import { requireBuildTrace, requireRealisation } from "./realisation-body.ts";
import type { RouteServices } from "./route-services.ts";

const MAX_DOCUMENT_BYTES = 2 ** 20;
const MAX_LISTING_BYTES = 64 * 2 ** 20;

/** The writing half of the Nix binary-cache protocol: what `nix copy --to http://…` sends. */
export function nixWriteRoutes(services: RouteServices): Route[] {
  const { index, gate, ingest, committer, limits, now } = services;

  const openView = (exchange: Exchange): Promise<ViewRecord> =>
    gate.requireWritableView(exchange.caller, exchange.params["view"] ?? "");

  const collect = async (exchange: Exchange, maxSizeBytes: number): Promise<Buffer> => {
    const body = await collectBody(exchange, { ...limits, maxSizeBytes });
    return decodeContent(body, exchange.request.headers["content-encoding"], maxSizeBytes);
  };

  const cacheInfo = async (exchange: Exchange): Promise<void> => {
    const view = await openView(exchange);
    const info = parseNixCacheInfo((await collect(exchange, MAX_DOCUMENT_BYTES)).toString("utf8"));
    if (info.storeDir !== view.storeDir) {
      throw new CacheError(
        "CONFLICT",
        `${view.name} holds paths of ${view.storeDir}, not of ${info.storeDir}`,
        {
          hint: "Create a view for that store directory.",
        },
      );
    }
    sendEmpty(exchange, 200);
  };

  const nar = async (exchange: Exchange): Promise<void> => {
    const { caller, params, request, signal } = exchange;
    const view = await gate.requireUploadView(caller, params["view"] ?? "");
    const name = parseNarFileName(exchange.params["file"] ?? "");
    if (name.kind === "path") {
      throw new CacheError("INVALID", "NARs are uploaded under the hash of their file", {
        hint: "The name is nar/<52 nix32 characters>.nar, with the compression's extension.",
      });
    }
    requireDeclaredSize(request, limits.maxNarSizeBytes);
    const body = readBody(exchange, limits);
    try {
      const { compression, source } = await detectCompression(body, name.extension);
      await ingest.ingest({
        viewId: view.id,
        source,
        compression,
        expected: { fileHash: name.fileHash },
        keepsFile: true,
        level: view.compressionLevel,
        signal,
      });
    } finally {
      // A reader that was left in the middle would keep the rest from being dropped.
      await body.return(undefined);
    }
    sendEmpty(exchange, 200);
  };

  const narInfo = async (exchange: Exchange): Promise<void> => {
    const view = await openView(exchange);
    const hash = requireStorePathHash(exchange.params["hash"] ?? "");
    const info = parseNarInfo(
      (await collect(exchange, limits.maxNarInfoSizeBytes)).toString("utf8"),
    );
    const manifest = parsePathManifest(
      { ...info, narHash: formatHash(info.narHash, "base16") },
      view.storeDir,
    );
    if (manifest.storePathHash !== hash) {
      throw new CacheError("CORRUPT", `The narinfo ${hash} is about ${info.storePath}`);
    }
    await committer.requireNoConflict(view, manifest);
    const file = await findNamedFile(view, info);
    if (file.narHash !== manifest.narHash || file.narSize !== manifest.narSize) {
      throw new CacheError(
        "CORRUPT",
        `The narinfo of ${info.storePath} says sha256:${sha256HexToNix32(manifest.narHash)} and ` +
          `${manifest.narSize} bytes, its NAR has sha256:${sha256HexToNix32(file.narHash)} and ${file.narSize}`,
        { hint: "Upload the NAR that belongs to it first." },
      );
    }
    const object = await index.findHolding(view.id, manifest.narHash);
    if (object === undefined) throw noSuchNar(info);
    await committer.commitOne(
      view,
      { manifest, object, requiredReferences: [] },
      authorOf(exchange),
    );
    await keepUploadedFile(view, file);
    sendEmpty(exchange, 200);
  };

  /** From now on its uploader's Nix remembers a narinfo that names this file, and nothing else of ours. */
  const keepUploadedFile = async (view: ViewRecord, object: ObjectRecord): Promise<void> => {
    const { fileHash, compression } = object;
    const file = await index.findUploadedFile(view.id, fileHash, compression);
    if (file === undefined) return;
    await index.addUploadedFile({ ...file, expiresAtMs: now() + limits.uploadedFileMaxAgeMs });
  };

  /** The file a narinfo names, which this view's client uploaded, or which the view serves itself. */
  const findNamedFile = async (view: ViewRecord, info: NarInfo): Promise<ObjectRecord> => {
    const name = info.url.startsWith("nar/") ? findNarFileName(info.url.slice(4)) : undefined;
    const compression = parseCompression(info.compression);
    const object =
      name?.kind === "file" ? await index.findObject([view.id], name.fileHash) : undefined;
    if (name?.kind !== "file" || object === undefined) throw noSuchNar(info);
    const isNamedSo = compressionsOfExtension(name.extension).includes(object.compression);
    if (object.compression !== compression || !isNamedSo) {
      throw new CacheError(
        "CORRUPT",
        `The narinfo of ${info.storePath} calls ${info.url} ${info.compression}, it is ${object.compression}`,
      );
    }
    return object;
  };

  const listing = async (exchange: Exchange): Promise<void> => {
    await openView(exchange);
    requireStorePathHash(exchange.params["hash"] ?? "");
    // Checked and then dropped: listings are made from the NAR itself, so that they are always true.
    parseNarListing((await collect(exchange, MAX_LISTING_BYTES)).toString("utf8"));
    sendEmpty(exchange, 200);
  };

  const document =
    (
      kind: DocumentKind,
      maxSizeBytes: number,
      readName: (exchange: Exchange) => string,
      check?: (body: Buffer, name: string) => void,
    ): Handler =>
    async (exchange) => {
      const view = await gate.requireUploadView(exchange.caller, exchange.params["view"] ?? "");
      const name = readName(exchange);
      const body = await collect(exchange, maxSizeBytes);
      check?.(body, name);
      const { writer } = authorOf(exchange);
      await index.putDocument(view.id, { kind, name, body, createdAtMs: now() }, writer);
      sendEmpty(exchange, 200);
    };

  const write = (pattern: string, handler: Handler): Route => ({
    method: "PUT",
    pattern,
    family: "nix-write",
    handler,
  });
  return [
    write("/:view/nix-cache-info", cacheInfo),
    write("/:view/:hash.narinfo", narInfo),
    write("/:view/:hash.ls", listing),
    write("/:view/nar/:file", nar),
    write("/:view/log/:name", document("log", limits.maxLogSizeBytes, nameParam)),
    write(
      "/:view/realisations/:name.doi",
      document("realisation", MAX_DOCUMENT_BYTES, nameParam, requireRealisation),
    ),
    write(
      "/:view/debuginfo/:name",
      document("debuginfo", MAX_DOCUMENT_BYTES, nameParam, requireDebugInfo),
    ),
    write(
      "/:view/build-trace-v2/:derivation/:name.doi",
      document("build-trace", MAX_DOCUMENT_BYTES, buildTraceName, requireBuildTrace),
    ),
  ];
}

function noSuchNar(info: NarInfo): CacheError {
  return new CacheError("INVALID", `The NAR ${info.url} of ${info.storePath} is not in this view`, {
    hint: "Upload the NAR first, then its narinfo.",
  });
}

const DECODERS: Readonly<
  Record<string, (body: Buffer, options: { maxOutputLength: number }) => Promise<Buffer>>
> = {
  gzip: promisify(gunzip) as (body: Buffer, options: object) => Promise<Buffer>,
  br: promisify(brotliDecompress) as (body: Buffer, options: object) => Promise<Buffer>,
  zstd: promisify(zstdDecompress) as (body: Buffer, options: object) => Promise<Buffer>,
};

/** Undoes the `Content-Encoding` that newer Nix puts on small files, bounded like a plain body. */
async function decodeContent(
  body: Buffer,
  encoding: string | undefined,
  maxSizeBytes: number,
): Promise<Buffer> {
  if (encoding === undefined || encoding === "identity") return body;
  const decode = DECODERS[encoding];
  if (decode === undefined) {
    throw new CacheError("UNSUPPORTED", `The content encoding ${encoding} is not accepted`, {
      hint: "Send the body plain, or as gzip, br or zstd.",
    });
  }
  try {
    return await decode(body, { maxOutputLength: maxSizeBytes });
  } catch (cause) {
    const isTooLarge =
      cause instanceof Error && "code" in cause && cause.code === "ERR_BUFFER_TOO_LARGE";
    throw isTooLarge
      ? new CacheError("TOO_LARGE", `The body decodes to more than ${maxSizeBytes} bytes`, {
          cause,
        })
      : new CacheError("CORRUPT", `The ${encoding} body is damaged`, { cause });
  }
}
