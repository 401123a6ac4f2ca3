import * as v from "valibot";

import { parseAnswer } from "./cache-config.ts";
import type { BodySource, HttpClient } from "./http-client.ts";
import type { PathFacts } from "./path-info.ts";

/** axum takes 2 MB of JSON, about 59 000 hashes. */
export const MAX_HASHES_PER_QUESTION = 50_000;

const Missing = v.object({ missing_paths: v.array(v.string()) });

/** The two questions of a push to an atticd, one request each. */
export class AtticWire {
  readonly #http: HttpClient;
  readonly #api: URL;
  readonly #view: string;

  /** @param endpoint - The server's base, with a trailing slash. */
  constructor(http: HttpClient, endpoint: URL, view: string) {
    this.#http = http;
    this.#api = new URL("_api/v1/", endpoint);
    this.#view = view;
  }

  async findMissing(
    storePathHashes: readonly string[],
    signal: AbortSignal | undefined,
  ): Promise<ReadonlySet<string>> {
    const url = new URL("get-missing-paths", this.#api);
    // Ours leaves out what upstreams of the view have, for clients that cannot ask apart; an atticd knows nothing of it.
    const json = {
      cache: this.#view,
      store_path_hashes: storePathHashes,
      skip_upstream: false,
    };
    const { text } = await this.#http.send("POST", url, { json, signal });
    return new Set(parseAnswer(Missing, text, `POST ${url.href}`).missing_paths);
  }

  /**
   * Uploads a NAR as it is, its metadata as preamble: a header would run into the limits of proxies.
   *
   * @returns Whether the server said it knew the NAR already; a 2xx without JSON means it did not.
   */
  async uploadPath(
    path: PathFacts,
    nar: BodySource,
    options: { onSent: (sentBytes: number) => void; signal: AbortSignal },
  ): Promise<{ readonly isDeduplicated: boolean; readonly sentBytes: number }> {
    const url = new URL("upload-path", this.#api);
    const preamble = Buffer.from(JSON.stringify(formatUploadPathNarInfo(this.#view, path)));
    const { text, sentBytes } = await this.#http.send("PUT", url, {
      headers: { "x-attic-nar-info-preamble-size": String(preamble.length) },
      contentLength: preamble.length + path.narSize,
      body: (signal) => prepend(preamble, nar(signal)),
      ...options,
    });
    return { isDeduplicated: /"kind"\s*:\s*"Deduplicated"/.test(text), sentBytes };
  }
}

async function* prepend(
  head: Uint8Array,
  rest: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array, void, undefined> {
  yield head;
  yield* rest;
}

/** Attic's `UploadPathNarInfo`. References sorted: an atticd signs them in the order they come. */
function formatUploadPathNarInfo(view: string, path: PathFacts): Record<string, unknown> {
  return {
    cache: view,
    store_path_hash: path.storePath.hash,
    store_path: path.storePath.path,
    references: path.references.toSorted(),
    system: null,
    deriver: path.deriver ?? null,
    sigs: path.signatures,
    ca: path.ca ?? null,
    nar_hash: `sha256:${path.narHash}`,
    nar_size: path.narSize,
  };
}
