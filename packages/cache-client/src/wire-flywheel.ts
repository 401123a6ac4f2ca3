import { parseSha256Hex } from "@glorious/nix-store";
import * as v from "valibot";

import { parseAnswer } from "./cache-config.ts";
import type { BodySource, HttpClient } from "./http-client.ts";
import { type NarReceipt, Receipt } from "./nar-receipt.ts";
import type { PathFacts } from "./path-info.ts";
import { PartsWire } from "./wire-parts.ts";

/** The most paths our server takes in one question or one commit. */
export const MAX_PATHS_PER_REQUEST = 20_000;

/** What the view lacks. */
export interface MissingAnswer {
  /** Store path hashes. */
  readonly missingPaths: ReadonlySet<string>;
  /** NAR hashes, in hex, among those of the missing paths. */
  readonly missingNars: ReadonlySet<string>;
  /** Neither missing nor there: names of upstreams that the view's readers get a path from, by store path hash. */
  readonly upstreamPaths: ReadonlyMap<string, string>;
}

/** A path to be made visible. */
export interface ClosurePath {
  readonly path: PathFacts;
  /** What the server stored for its NAR, when this push uploaded it. */
  readonly fileHash: string | undefined;
}

/** The answer to a commit that was accepted. */
export interface CommitAnswer {
  readonly created: readonly string[];
  readonly unchanged: readonly string[];
  readonly conflicts: readonly { readonly storePathHash: string; readonly narHash: string }[];
}

const Missing = v.object({
  missingPaths: v.array(v.string()),
  missingNars: v.array(v.string()),
  upstreamPaths: v.optional(
    v.array(v.object({ storePathHash: v.string(), upstream: v.string() })),
    [],
  ),
});
const Commit = v.object({
  created: v.array(v.string()),
  unchanged: v.array(v.string()),
  conflicts: v.array(v.object({ storePathHash: v.string(), narHash: v.string() })),
});
const Incomplete = v.object({
  missingNars: v.optional(v.array(v.string()), []),
  missingReferences: v.optional(v.array(v.string()), []),
});

/** How it is asked what a view lacks. */
export interface MissingOptions {
  readonly skipUpstream: boolean;
  readonly signal: AbortSignal | undefined;
}

/** The three questions of a push to our own server, one request each. */
export class FlywheelWire {
  readonly #http: HttpClient;
  readonly #base: URL;
  /** For NARs that are not sent in one piece. */
  readonly parts: PartsWire;

  /** @param api - Where the server's own routes begin, with a trailing slash. */
  constructor(http: HttpClient, api: URL, view: string) {
    this.#http = http;
    this.#base = new URL(`views/${view}/`, api);
    this.parts = new PartsWire(http, api, view);
  }

  /** @param options.skipUpstream sets apart what the view's readers get from its upstreams. */
  async findMissing(
    paths: readonly PathFacts[],
    { skipUpstream, signal }: MissingOptions,
  ): Promise<MissingAnswer> {
    const url = new URL("missing", this.#base);
    const json = {
      paths: paths.map(({ storePath, narHash }) => ({ storePathHash: storePath.hash, narHash })),
      skipUpstream,
    };
    const { text } = await this.#http.send("POST", url, { json, signal });
    const answer = parseAnswer(Missing, text, `POST ${url.href}`);
    return {
      missingPaths: new Set(answer.missingPaths),
      missingNars: new Set(answer.missingNars.map((hash) => parseSha256Hex(`sha256:${hash}`))),
      upstreamPaths: new Map(
        answer.upstreamPaths.map(({ storePathHash, upstream }) => [storePathHash, upstream]),
      ),
    };
  }

  async putNar(
    path: PathFacts,
    body: BodySource,
    options: { onSent: (sentBytes: number) => void; signal: AbortSignal },
  ): Promise<NarReceipt & { readonly sentBytes: number }> {
    const url = new URL(`nars/${path.narHash}?size=${path.narSize}&compression=zstd`, this.#base);
    const { text, sentBytes } = await this.#http.send("PUT", url, {
      body,
      headers: { "content-type": "application/x-nix-nar" },
      ...options,
    });
    return { ...parseAnswer(Receipt, text, `PUT ${url.origin}${url.pathname}`), sentBytes };
  }

  async commit(
    paths: readonly ClosurePath[],
    externalReferences: readonly string[],
    signal: AbortSignal | undefined,
  ): Promise<CommitAnswer> {
    const url = new URL("closures", this.#base);
    const json = { paths: paths.map(formatClosurePath), externalReferences };
    const { text } = await this.#http.send("POST", url, { json, signal });
    return parseAnswer(Commit, text, `POST ${url.href}`);
  }
}

/** What a refused commit says is not there, or `undefined` when the refusal is about something else. */
export function readIncomplete(
  details: Readonly<Record<string, unknown>>,
):
  | { readonly missingNars: readonly string[]; readonly missingReferences: readonly string[] }
  | undefined {
  const result = v.safeParse(Incomplete, details);
  if (!result.success) return undefined;
  const { missingNars, missingReferences } = result.output;
  return missingNars.length + missingReferences.length === 0 ? undefined : result.output;
}

function formatClosurePath({ path, fileHash }: ClosurePath): Record<string, unknown> {
  return {
    storePath: path.storePath.path,
    narHash: path.narHash,
    narSize: path.narSize,
    fileHash,
    references: path.references,
    deriver: path.deriver,
    ca: path.ca,
    signatures: path.signatures,
  };
}
