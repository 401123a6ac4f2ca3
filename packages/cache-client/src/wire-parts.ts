import * as v from "valibot";

import { parseAnswer } from "./cache-config.ts";
import type { HttpClient } from "./http-client.ts";
import { type NarReceipt, Receipt } from "./nar-receipt.ts";
import type { PathFacts } from "./path-info.ts";

/** An upload in parts that goes on. */
export interface OpenUpload {
  readonly id: string;
  /** The zstd level that all its parts are encoded at. */
  readonly level: number;
  /** The parts that the server has. */
  readonly parts: readonly number[];
}

/** A part ready to be sent, as often as need be. */
export interface PartToSend {
  readonly number: number;
  readonly pieces: readonly Uint8Array[];
  readonly sizeBytes: number;
  /** In hexadecimal. */
  readonly sha256: string;
}

const Open = v.object({
  id: v.pipe(v.string(), v.regex(/^[A-Za-z0-9_-]{1,200}$/)),
  level: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(22)),
  parts: v.array(v.number()),
});
const Running = v.object({ state: v.literal("running") });

/** Our server's uploads in parts, one request each. */
export class PartsWire {
  readonly #http: HttpClient;
  readonly #base: URL;

  /** @param api - Where the server's own routes begin, with a trailing slash. */
  constructor(http: HttpClient, api: URL, view: string) {
    this.#http = http;
    this.#base = new URL(`views/${view}/uploads`, api);
  }

  /** Opens an upload or finds the one that is open; a receipt when the view has the NAR. */
  async begin(
    { narHash, narSize }: PathFacts,
    partBytes: number,
    signal: AbortSignal,
  ): Promise<OpenUpload | NarReceipt> {
    const json = { narHash, narSize, partBytes };
    const { text } = await this.#http.send("POST", this.#base, { json, signal });
    return parseAnswer(v.union([Receipt, Open]), text, `POST ${this.#base.href}`);
  }

  async putPart(id: string, part: PartToSend, signal: AbortSignal): Promise<void> {
    const { number, pieces, sizeBytes, sha256 } = part;
    await this.#http.send("PUT", this.#url(`${id}/parts/${number}`), {
      headers: { "content-type": "application/octet-stream", "x-flywheel-sha256": sha256 },
      contentLength: sizeBytes,
      body: async function* () {
        yield* pieces;
      },
      signal,
    });
  }

  /** Has the parts made one NAR; to be asked again while that runs. */
  async complete(id: string, signal: AbortSignal): Promise<NarReceipt | "running"> {
    const url = this.#url(`${id}/complete`);
    const { status, text } = await this.#http.send("POST", url, { signal });
    const request = `POST ${url.href}`;
    if (status !== 202) return parseAnswer(Receipt, text, request);
    parseAnswer(Running, text, request);
    return "running";
  }

  /** Has the server forget the upload and its parts. */
  async giveUp(id: string, signal: AbortSignal): Promise<void> {
    await this.#http.send("DELETE", this.#url(id), { signal });
  }

  #url(rest: string): URL {
    return new URL(`${this.#base.href}/${rest}`);
  }
}
