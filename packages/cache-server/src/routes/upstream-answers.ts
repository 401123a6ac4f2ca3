import { isCacheError } from "@glorious/core";
import { parseNarListing } from "@glorious/nix-store";

import { addSignatures } from "../commit/narinfo-text.ts";
import { AtticError } from "../http/attic-error.ts";
import type { Exchange } from "../http/exchange.ts";
import type { DocumentKind, FoundNarInfo, PathRecord } from "../index/cache-index.ts";
import { compressionsOfExtension } from "../ingest/nar-decoder.ts";
import type { ReadChain, ReadView } from "../trust/read-chain.ts";
import { UpstreamFault } from "../upstream/upstream-fault.ts";
import { isServerId, VIA_HEADER, type Via } from "../upstream/upstream-http.ts";
import { formatServedNarInfo } from "../upstream/upstream-narinfo.ts";
import type { UpstreamHit } from "../upstream/upstream-reader.ts";
import { isSignedBuildTrace, isSignedRealisation } from "../upstream/verify-document.ts";
import { parseNarFileName } from "./nix-files.ts";
import type { RouteServices } from "./route-services.ts";
import { sendUpstreamNar } from "./send-upstream-nar.ts";
import { findUpstreamSigner } from "./upstream-keys.ts";

/** Answers to what no view of a read chain has, from its upstreams. */
export interface UpstreamAnswers {
  /** The text of a narinfo. */
  narInfo(exchange: Exchange, chain: ReadChain, storePathHash: string): Promise<string | undefined>;
  /** What the upstreams have of many, not yet signed by the view; by store path hash. */
  narInfos(
    exchange: Exchange,
    chain: ReadChain,
    storePathHashes: readonly string[],
  ): Promise<ReadonlyMap<string, UpstreamPathInfo>>;
  /** The narinfo of a path that was found, with the view's own signature where it came from an upstream. */
  signed(chain: ReadChain, path: Pick<PathRecord, "viewId" | "narInfo">): Promise<string>;
  /**
   * Sends a NAR while it comes; `false` when it has just come, and is in the index, unless the caller is sure that it
   * is not.
   *
   * @throws {CacheError} `NOT_FOUND` when no upstream has it, or it is not right.
   */
  sendNar(exchange: Exchange, chain: ReadChain, options: SendNarOptions): Promise<boolean>;
  listing(exchange: Exchange, chain: ReadChain, storePathHash: string): Promise<Buffer | undefined>;
  document(
    exchange: Exchange,
    chain: ReadChain,
    wanted: WantedDocument,
  ): Promise<Buffer | undefined>;
}

export interface WantedDocument {
  readonly kind: DocumentKind;
  readonly name: string;
}

export interface SendNarOptions {
  readonly fileName: string;
  readonly isSure: boolean;
}

/** A path that only an upstream has, in the shape of one that was found. */
export type UpstreamPathInfo = Pick<FoundNarInfo, "viewId" | "narInfo" | "references">;

const MAX_LISTING_BYTES = 64 * 2 ** 20;
const MAX_DOCUMENT_BYTES = 2 ** 20;

export function createUpstreamAnswers({
  index,
  upstreams,
  limits,
  upstreamPatienceMs,
}: RouteServices): UpstreamAnswers {
  const sign = async (
    { views }: ReadChain,
    { viewId, narInfo }: Pick<PathRecord, "viewId" | "narInfo">,
  ): Promise<string> => {
    const signer = await findUpstreamSigner(index, views, viewId);
    if (signer === undefined) return narInfo;
    const keys = await index.listSigningKeys(signer.id);
    return addSignatures(narInfo, { storeDir: signer.storeDir, keys });
  };

  const findNar = async (
    exchange: Exchange,
    chain: ReadChain,
    fileName: string,
  ): Promise<UpstreamHit | undefined> => {
    const name = parseNarFileName(fileName);
    const hit =
      name.kind === "file"
        ? await upstreams?.findFile(chain.upstreams, { ...name, via: readVia(exchange) })
        : await upstreams?.find(chain.upstreams, name.storePathHash, readVia(exchange));
    const isNamedSo =
      hit !== undefined &&
      compressionsOfExtension(name.extension).includes(hit.narInfo.compression);
    return isNamedSo ? hit : undefined;
  };

  return {
    async narInfo(exchange, chain, storePathHash) {
      const hit = await upstreams?.find(chain.upstreams, storePathHash, readVia(exchange));
      if (hit === undefined) return undefined;
      const { viewId } = hit.upstream;
      return sign(chain, { viewId, narInfo: formatServedNarInfo(hit.narInfo) });
    },
    async narInfos(exchange, chain, storePathHashes) {
      const via = readVia(exchange);
      const hits = (await upstreams?.findAll(chain.upstreams, storePathHashes, via)) ?? [];
      return new Map(
        hits.map(({ upstream, narInfo }) => {
          const { storePathHash, references } = narInfo.manifest;
          const text = formatServedNarInfo(narInfo);
          return [storePathHash, { viewId: upstream.viewId, narInfo: text, references }];
        }),
      );
    },
    signed: async (chain, path) =>
      chain.ids.includes(path.viewId) ? path.narInfo : sign(chain, path),
    async sendNar(exchange, chain, { fileName, isSure }) {
      // Who only asks whether it is there may be about to upload it.
      const isHead = exchange.request.method === "HEAD";
      const hit = isHead ? undefined : await findNar(exchange, chain, fileName);
      if (hit === undefined || upstreams === undefined) throw noSuchNar(chain.view, fileName);
      try {
        return await sendUpstreamNar(exchange, chain, {
          upstreams,
          hit,
          via: readVia(exchange),
          patienceMs: upstreamPatienceMs,
          isSure,
        });
      } catch (error) {
        if (!(error instanceof UpstreamFault)) throw error;
        throw noSuchNar(chain.view, fileName, error);
      }
    },
    async listing(exchange, { upstreams: asked }, storePathHash) {
      const found = await upstreams?.findDocument(asked, `${storePathHash}.ls`, {
        via: readVia(exchange),
        maxBytes: MAX_LISTING_BYTES,
        check: isListing,
      });
      return found?.body;
    },
    async document(exchange, { upstreams: asked }, { kind, name }) {
      const via = readVia(exchange);
      switch (kind) {
        case "log": {
          const log = await upstreams?.findDocument(asked, `log/${name}`, {
            via,
            maxBytes: limits.maxLogSizeBytes,
            check: () => true,
          });
          return log?.body;
        }
        case "realisation": {
          const realisation = await upstreams?.findDocument(asked, `realisations/${name}.doi`, {
            via,
            maxBytes: MAX_DOCUMENT_BYTES,
            check: (body, { publicKeys }) => isSignedRealisation(body, name, publicKeys),
          });
          return realisation?.body;
        }
        case "build-trace": {
          const trace = await upstreams?.findDocument(asked, `build-trace-v2/${name}.doi`, {
            via,
            maxBytes: MAX_DOCUMENT_BYTES,
            check: (body, { publicKeys }) => isSignedBuildTrace(body, name, publicKeys),
          });
          return trace?.body;
        }
        default:
          return undefined;
      }
    },
  };
}

/** The servers of ours that this request came through; nobody else's words are passed on to upstreams. */
export function readVia({ request }: Pick<Exchange, "request">): Via {
  const header = request.headers[VIA_HEADER];
  const via = typeof header === "string" ? header.split(",") : [];
  return via.every(isServerId) ? via : [];
}

/** The refusal of a NAR that is not there, or that cannot be had. */
export function noSuchNar({ name }: ReadView, fileName: string, fault?: UpstreamFault): AtticError {
  const message = `There is no nar/${fileName} in ${name}`;
  return fault === undefined
    ? new AtticError("NoSuchObject", "NOT_FOUND", message)
    : new AtticError("NoSuchObject", "NOT_FOUND", `${message}: its upstream's is ${fault.reason}`, {
        cause: fault,
      });
}

function isListing(body: Buffer): boolean {
  try {
    parseNarListing(body.toString("utf8"));
    return true;
  } catch (error) {
    if (isCacheError(error)) return false;
    throw error;
  }
}
