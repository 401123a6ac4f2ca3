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
import type { DocumentKind, FoundObject } from "../index/cache-index.ts";
import { compressionsOfExtension } from "../ingest/nar-decoder.ts";
import { objectKey } from "../ingest/object-key.ts";
import { createByteCache } from "../read-cache/byte-cache.ts";
import type { ReadChain } from "../trust/read-chain.ts";
import { createListings } from "./nar-listings.ts";
import {
  findNarFileName,
  parseNarFileName,
  requireDocumentName,
  requireStorePathHash,
} from "./nix-files.ts";
import { headersOf } from "./read-headers.ts";
import type { RouteServices } from "./route-services.ts";
import { isRestOf } from "./send-upstream-nar.ts";
import { createUpstreamAnswers, noSuchNar } from "./upstream-answers.ts";

const YEAR_SECONDS = 31_536_000;
/** Headers of a remembered answer, beside its body. */
const PREPARED_OVERHEAD_BYTES = 500;
/** Two hashes in hexadecimal and what holds them. */
const OBJECT_BYTES = 400;

/** What was answered, and which view it lies in. */
interface FoundAnswer {
  readonly viewId: number;
  readonly answer: PreparedAnswer;
}

/** The reading half of the Nix binary-cache protocol, with Attic's additions. */
export function nixReadRoutes(services: RouteServices): Route[] {
  const { index, store, gate, accesses, reads } = services;
  const listings = createListings(services);
  const passedOn = createUpstreamAnswers(services);

  /** The view to read and what lies behind it, once the caller may. */
  const openChain = async ({ caller, params }: Exchange): Promise<ReadChain> => {
    const name = params["view"] ?? "";
    return gate.recallChain(caller, name) ?? (await gate.requireChain(caller, name));
  };

  const cacheInfo = async (exchange: Exchange): Promise<void> => {
    const chain = await openChain(exchange);
    const { storeDir, priority } = chain.view;
    const text = formatNixCacheInfo({ storeDir, wantMassQuery: true, priority });
    sendBytes(exchange, text, "text/x-nix-cache-info", { headers: headersOf(chain, 3600) });
  };

  /** Narinfos and small NARs, each good for the version of the index it was read at. */
  const answers = createByteCache<FoundAnswer>(services.answerCacheBytes);
  /** Which view may serve which NAR file. */
  const objects = createByteCache<FoundObject>(services.answerCacheBytes / 8);

  const remember = ({ caller }: Exchange, key: string, found: FoundAnswer): void => {
    if (caller.indexVersion === undefined) return;
    answers.put(key, caller.indexVersion, found, found.answer.sizeBytes + PREPARED_OVERHEAD_BYTES);
  };

  /** Notes the use of what is read in a view; `false` when it may not be there any more. */
  type Use = (viewId: number, exchange: Exchange) => boolean;
  const useNarInfo: Use = (viewId, { caller, params }) => {
    const hash = params["hash"] ?? "";
    reads.note(caller.claims, viewId, "path", hash);
    return accesses.usePath(viewId, hash) === undefined;
  };
  // A NAR outlives its path, so nobody need wait here.
  const useNar: Use = (viewId, { params, caller, request }) => {
    const file = params["file"] ?? "";
    accesses.useNar(viewId, file, findNarFileName);
    if (caller.claims === undefined || request.method === "HEAD") return true;
    const name = parseNarFileName(file);
    if (name.kind === "file") reads.note(caller.claims, viewId, "nar", name.fileHash);
    else reads.note(caller.claims, viewId, "path", name.storePathHash);
    return true;
  };

  const recall =
    (keyOf: (chain: ReadChain, exchange: Exchange) => string, use: Use) =>
    (exchange: Exchange): boolean => {
      const { caller, params, request } = exchange;
      if (caller.indexVersion === undefined || request.headers.range !== undefined) return false;
      const chain = gate.recallChain(caller, params["view"] ?? "");
      if (chain === undefined) return false;
      const found = answers.get(keyOf(chain, exchange), caller.indexVersion);
      if (found === undefined || !use(found.viewId, exchange)) return false;
      sendPrepared(exchange, found.answer);
      return true;
    };

  const narInfoKey = ({ key }: ReadChain, { params }: Exchange): string =>
    `${key}/${params["hash"]}`;
  const narKey = ({ key }: ReadChain, { params }: Exchange): string =>
    `${key}/nar/${params["file"]}`;

  const narInfo = async (exchange: Exchange): Promise<void> => {
    const chain = await openChain(exchange);
    const hash = requireStorePathHash(exchange.params["hash"] ?? "");
    let path = await index.findPath(chain.readIds, hash);
    while (path !== undefined) {
      const deletion = accesses.usePath(path.viewId, hash, path.accessedAtMs);
      if (deletion === undefined) break;
      await deletion;
      path = await index.findPath(chain.readIds, hash);
    }
    const headers = headersOf(chain, 300);
    if (path === undefined) {
      const text = await passedOn.narInfo(exchange, chain, hash);
      if (text === undefined) throw noSuchPath(chain, hash);
      sendBytes(exchange, text, "text/x-nix-narinfo", { headers });
      return;
    }
    reads.note(exchange.caller.claims, path.viewId, "path", hash);
    const text = await passedOn.signed(chain, path);
    const answer = prepareAnswer(text, "text/x-nix-narinfo", { headers });
    remember(exchange, narInfoKey(chain, exchange), { viewId: path.viewId, answer });
    sendPrepared(exchange, answer);
  };

  const findObject = async (chain: ReadChain, name: string): Promise<FoundObject | undefined> => {
    const wanted = parseNarFileName(name);
    if (wanted.kind === "file") {
      const object = await index.findObject(chain.readIds, wanted.fileHash);
      return object && isNamedSo(object, wanted.extension) ? object : undefined;
    }
    const path = await index.findPath(chain.readIds, wanted.storePathHash);
    const object = path && (await index.findObject([path.viewId], path.fileHash));
    const isAny = wanted.extension === "";
    return object && (isAny || isNamedSo(object, wanted.extension)) ? object : undefined;
  };

  /**
   * Nix asks so whether it may send a narinfo without its NAR: an uploaded file alone is not enough for that, nor is
   * what other views hold for a caller that could push into this one.
   */
  const isOffered = async (
    { caller }: Exchange,
    { view }: ReadChain,
    object: FoundObject,
  ): Promise<boolean> => {
    const viewId = gate.may(caller, view.name, "push") ? view.id : object.viewId;
    return viewId !== undefined && (await index.findHolding(viewId, object.narHash)) !== undefined;
  };

  const nar = async (exchange: Exchange): Promise<void> => {
    const chain = await openChain(exchange);
    const name = exchange.params["file"] ?? "";
    const key = narKey(chain, exchange);
    const { indexVersion } = exchange.caller;
    let object = indexVersion === undefined ? undefined : objects.get(key, indexVersion);
    if (object === undefined) {
      object = await findObject(chain, name);
      if (object !== undefined && indexVersion !== undefined) {
        objects.put(key, indexVersion, object, OBJECT_BYTES);
      }
    }
    for (let isSure = false; object === undefined; isSure = true) {
      if (await passedOn.sendNar(exchange, chain, { fileName: name, isSure })) return;
      object = await findObject(chain, name);
    }
    const isThere =
      exchange.request.method !== "HEAD" || (await isOffered(exchange, chain, object));
    if (!isThere) throw noSuchNar(chain.view, name);
    const served = object;
    const { viewId } = object;
    // What was begun by its path's name came from the upstream as it was, and is encoded anew here.
    const isOther = parseNarFileName(name).kind === "path" && !chain.ids.includes(viewId);
    if (isOther && isRestOf(exchange.request)) throw noSuchNar(chain.view, name);
    useNar(viewId, exchange);
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
          ? headersOf(chain, YEAR_SECONDS, "immutable")
          : headersOf(chain, 300),
      onFault: (depth) => services.quarantine.examine(served, depth),
      onRead: (answer) => remember(exchange, key, { viewId, answer }),
    });
  };

  const listing = async (exchange: Exchange): Promise<void> => {
    const chain = await openChain(exchange);
    const hash = requireStorePathHash(exchange.params["hash"] ?? "");
    const path = await index.findPath(chain.readIds, hash);
    const body =
      path === undefined
        ? await passedOn.listing(exchange, chain, hash)
        : await listings.get(path, exchange.signal);
    if (body === undefined) throw noSuchPath(chain, hash);
    sendBytes(exchange, body, "application/json", { headers: headersOf(chain, 3600) });
  };

  const document =
    (kind: DocumentKind, contentType: string, readName: (exchange: Exchange) => string): Handler =>
    async (exchange) => {
      const chain = await openChain(exchange);
      const name = readName(exchange);
      const body =
        (await index.findDocument(chain.readIds, kind, name)) ??
        (await passedOn.document(exchange, chain, { kind, name }));
      if (body === undefined) {
        throw new AtticError(
          "NotFound",
          "NOT_FOUND",
          `There is no ${kind} ${name} in ${chain.view.name}`,
        );
      }
      sendBytes(exchange, body, contentType, { headers: headersOf(chain, 3600) });
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

function isNamedSo({ compression }: FoundObject, extension: string): boolean {
  return compressionsOfExtension(extension).includes(compression);
}

function noSuchPath({ view }: ReadChain, hash: string): AtticError {
  return new AtticError("NoSuchObject", "NOT_FOUND", `There is no path ${hash} in ${view.name}`);
}
