import { formatNixCacheInfo } from "@glorious/nix-store";

import { AtticError } from "../http/attic-error.ts";
import type { Exchange, Handler } from "../http/exchange.ts";
import type { Route } from "../http/router.ts";
import {
  type PreparedAnswer,
  prepareAnswer,
  sendBlob,
  sendBytes,
  sendPrepared,
} from "../http/send.ts";
import type { DocumentKind, ObjectRecord, ViewRecord } from "../index/cache-index.ts";
import { compressionsOfExtension } from "../ingest/nar-decoder.ts";
import { objectKey } from "../ingest/object-key.ts";
import { createByteCache } from "../read-cache/byte-cache.ts";
import { createListings } from "./nar-listings.ts";
import {
  findNarFileName,
  parseNarFileName,
  requireDocumentName,
  requireStorePathHash,
} from "./nix-files.ts";
import type { RouteServices } from "./route-services.ts";

const YEAR_SECONDS = 31_536_000;
/** Headers of a remembered answer, beside its body. */
const PREPARED_OVERHEAD_BYTES = 500;
/** Two hashes in hexadecimal and what holds them. */
const OBJECT_BYTES = 400;

/** The reading half of the Nix binary-cache protocol, with Attic's additions. */
export function nixReadRoutes(services: RouteServices): Route[] {
  const { index, store, gate, accesses } = services;
  const listings = createListings(services);

  /** The view to read and the chain behind it, once the caller may. Today a chain is the view alone. */
  const openChain = async (
    exchange: Exchange,
  ): Promise<{ readonly view: ViewRecord; readonly chain: readonly number[] }> => {
    const { caller, params } = exchange;
    const name = params["view"] ?? "";
    const view =
      gate.recallView(caller, name, "pull") ?? (await gate.requireView(caller, name, "pull"));
    return { view, chain: [view.id] };
  };

  const cacheInfo = async (exchange: Exchange): Promise<void> => {
    const { view } = await openChain(exchange);
    const text = formatNixCacheInfo({
      storeDir: view.storeDir,
      wantMassQuery: true,
      priority: view.priority,
    });
    sendBytes(exchange, text, "text/x-nix-cache-info", { headers: headersOf(view, 3600) });
  };

  /** Narinfos and small NARs, each good for the version of the index it was read at. */
  const answers = createByteCache<PreparedAnswer>(services.answerCacheBytes);
  /** Which view may serve which NAR file. */
  const objects = createByteCache<ObjectRecord>(services.answerCacheBytes / 8);

  const remember = ({ caller }: Exchange, key: string, answer: PreparedAnswer): void => {
    if (caller.indexVersion === undefined) return;
    answers.put(key, caller.indexVersion, answer, answer.sizeBytes + PREPARED_OVERHEAD_BYTES);
  };

  /** Notes the use of what is read; `false` when it may not be there any more. */
  type Use = (view: ViewRecord, exchange: Exchange) => boolean;
  const useNarInfo: Use = (view, { params }) =>
    accesses.usePath(view.id, params["hash"] ?? "") === undefined;
  // A NAR outlives its path, so nobody need wait here.
  const useNar: Use = (view, { params }) => {
    accesses.useNar(view.id, params["file"] ?? "", findNarFileName);
    return true;
  };

  const recall =
    (keyOf: (view: ViewRecord, exchange: Exchange) => string, use: Use) =>
    (exchange: Exchange): boolean => {
      const { caller, params, request } = exchange;
      if (caller.indexVersion === undefined || request.headers.range !== undefined) return false;
      const view = gate.recallView(caller, params["view"] ?? "", "pull");
      if (view === undefined) return false;
      const answer = answers.get(keyOf(view, exchange), caller.indexVersion);
      if (answer === undefined || !use(view, exchange)) return false;
      sendPrepared(exchange, answer);
      return true;
    };

  const narInfoKey = (view: ViewRecord, { params }: Exchange): string =>
    `${view.id}/${params["hash"]}`;
  const narKey = (view: ViewRecord, { params }: Exchange): string =>
    `${view.id}/nar/${params["file"]}`;

  const narInfo = async (exchange: Exchange): Promise<void> => {
    const { view, chain } = await openChain(exchange);
    const hash = requireStorePathHash(exchange.params["hash"] ?? "");
    let path = await index.findPath(chain, hash);
    while (path !== undefined) {
      const deletion = accesses.usePath(path.viewId, hash, path.accessedAtMs);
      if (deletion === undefined) break;
      await deletion;
      path = await index.findPath(chain, hash);
    }
    if (path === undefined) throw noSuchPath(view, hash);
    const headers = headersOf(view, 300);
    const answer = prepareAnswer(path.narInfo, "text/x-nix-narinfo", { headers });
    remember(exchange, narInfoKey(view, exchange), answer);
    sendPrepared(exchange, answer);
  };

  const findObject = async (
    chain: readonly number[],
    name: string,
  ): Promise<ObjectRecord | undefined> => {
    const wanted = parseNarFileName(name);
    if (wanted.kind === "file") {
      const object = await index.findObject(chain, wanted.fileHash);
      const isNamedSo =
        object !== undefined &&
        compressionsOfExtension(wanted.extension).includes(object.compression);
      return isNamedSo ? object : undefined;
    }
    const path = await index.findPath(chain, wanted.storePathHash);
    return path === undefined ? undefined : index.findObject([path.viewId], path.fileHash);
  };

  const nar = async (exchange: Exchange): Promise<void> => {
    const { view, chain } = await openChain(exchange);
    const name = exchange.params["file"] ?? "";
    const key = narKey(view, exchange);
    const { indexVersion } = exchange.caller;
    let object = indexVersion === undefined ? undefined : objects.get(key, indexVersion);
    if (object === undefined) {
      object = await findObject(chain, name);
      if (object !== undefined && indexVersion !== undefined) {
        objects.put(key, indexVersion, object, OBJECT_BYTES);
      }
    }
    if (object === undefined) {
      throw noSuchNar(view, name);
    }
    // Nix asks so whether it may send a narinfo without its NAR, which an uploaded file alone is not enough for.
    const isOffered =
      exchange.request.method !== "HEAD" ||
      (await index.findHolding(view.id, object.narHash)) !== undefined;
    if (!isOffered) throw noSuchNar(view, name);
    const served = object;
    useNar(view, exchange);
    await sendBlob(exchange, {
      store,
      accelRedirect: services.accelRedirect,
      key: objectKey(object.fileHash),
      sha256: object.fileHash,
      sizeBytes: object.fileSize,
      contentType: "application/x-nix-nar",
      // A file hash names its bytes for ever, a path's name only until the path is deleted and built anew.
      headers:
        parseNarFileName(name).kind === "file"
          ? headersOf(view, YEAR_SECONDS, "immutable")
          : headersOf(view, 300),
      onFault: (depth) => services.quarantine.examine(served, depth),
      onRead: (answer) => remember(exchange, key, answer),
    });
  };

  const listing = async (exchange: Exchange): Promise<void> => {
    const { view, chain } = await openChain(exchange);
    const hash = requireStorePathHash(exchange.params["hash"] ?? "");
    const path = await index.findPath(chain, hash);
    if (path === undefined) throw noSuchPath(view, hash);
    const body = await listings.get(path, exchange.signal);
    sendBytes(exchange, body, "application/json", { headers: headersOf(view, 3600) });
  };

  const document =
    (kind: DocumentKind, contentType: string, readName: (exchange: Exchange) => string): Handler =>
    async (exchange) => {
      const { view, chain } = await openChain(exchange);
      const name = readName(exchange);
      const body = await index.findDocument(chain, kind, name);
      if (body === undefined) {
        throw new AtticError(
          "NotFound",
          "NOT_FOUND",
          `There is no ${kind} ${name} in ${view.name}`,
        );
      }
      sendBytes(exchange, body, contentType, { headers: headersOf(view, 3600) });
    };

  const read = (pattern: string, handler: Handler): Route => ({
    method: "GET",
    pattern,
    family: "attic",
    handler,
  });
  return [
    read("/:view/nix-cache-info", cacheInfo),
    { ...read("/:view/:hash.narinfo", narInfo), recall: recall(narInfoKey, useNarInfo) },
    read("/:view/:hash.ls", listing),
    { ...read("/:view/nar/:file", nar), recall: recall(narKey, useNar) },
    read("/:view/log/:name", document("log", "text/plain; charset=utf-8", nameParam)),
    read("/:view/realisations/:name.doi", document("realisation", "application/json", nameParam)),
    read("/:view/debuginfo/:name", document("debuginfo", "application/json", nameParam)),
    read(
      "/:view/build-trace-v2/:derivation/:name.doi",
      document("build-trace", "application/json", buildTraceName),
    ),
  ];
}

/** The document that a route's `:name` asks for. */
export function nameParam({ params }: Exchange): string {
  return requireDocumentName(params["name"] ?? "");
}

/** A build trace's name: derivation and output, as in its path. */
export function buildTraceName({ params }: Exchange): string {
  const derivation = requireDocumentName(params["derivation"] ?? "");
  return `${derivation}/${requireDocumentName(params["name"] ?? "")}`;
}

function noSuchNar(view: ViewRecord, name: string): AtticError {
  return new AtticError("NoSuchObject", "NOT_FOUND", `There is no nar/${name} in ${view.name}`);
}

function noSuchPath(view: ViewRecord, hash: string): AtticError {
  return new AtticError("NoSuchObject", "NOT_FOUND", `There is no path ${hash} in ${view.name}`);
}

/** Shared proxies may keep what everybody may read; nobody's answer to a token. */
function headersOf(
  view: ViewRecord,
  maxAgeSeconds: number,
  more?: string,
): Readonly<Record<string, string>> {
  const cacheControl = [
    view.isPublic ? "public" : "private",
    `max-age=${maxAgeSeconds}`,
    ...(more === undefined ? [] : [more]),
  ].join(", ");
  return view.isPublic
    ? { "cache-control": cacheControl, "x-attic-cache-visibility": "public" }
    : { "cache-control": cacheControl, vary: "authorization" };
}
