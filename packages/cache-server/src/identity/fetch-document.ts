import { CacheError, formatDurationMs, formatSizeBytes } from "@glorious/core";

/** The largest document that is taken from an issuer; a forge's is a few KiB. */
const MAX_DOCUMENT_BYTES = 2 ** 20;

/** How long an issuer may take for one document, from the first packet to the last byte. */
const DOCUMENT_TIMEOUT_MS = 5000;

/** Gets a document of an issuer as text. */
export type FetchDocument = (url: URL) => Promise<string>;

/**
 * Gets a small document within {@link DOCUMENT_TIMEOUT_MS} and {@link MAX_DOCUMENT_BYTES}. Redirects are not followed:
 * where keys come from is the operator's word, not that of whoever answers.
 *
 * @throws {CacheError} `UNAVAILABLE`, `TIMEOUT` or `TOO_LARGE`, naming host and path.
 */
export async function fetchDocument(url: URL): Promise<string> {
  const where = `${url.origin}${url.pathname}`;
  const signal = AbortSignal.timeout(DOCUMENT_TIMEOUT_MS);
  try {
    const response = await fetch(url, {
      redirect: "manual",
      headers: { accept: "application/json" },
      signal,
    });
    if (response.status !== 200) {
      await response.body?.cancel();
      const isRedirect = response.status >= 300 && response.status < 400;
      throw new CacheError("UNAVAILABLE", `${where} answered ${response.status}`, {
        hint: isRedirect ? "Redirects are not followed: name the final address." : undefined,
      });
    }
    return await readLimited(response, where);
  } catch (error) {
    if (error instanceof CacheError) throw error;
    if (signal.aborted) {
      const limit = formatDurationMs(DOCUMENT_TIMEOUT_MS);
      throw new CacheError("TIMEOUT", `${where} took longer than ${limit}`, { cause: error });
    }
    throw new CacheError("UNAVAILABLE", `${where} cannot be reached`, { cause: error });
  }
}

async function readLimited(response: Response, where: string): Promise<string> {
  const pieces: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const piece of response.body ?? []) {
    sizeBytes += piece.length;
    // Leaving the loop cancels the rest.
    if (sizeBytes > MAX_DOCUMENT_BYTES) {
      const limit = formatSizeBytes(MAX_DOCUMENT_BYTES);
      throw new CacheError("TOO_LARGE", `${where} answered more than ${limit}`);
    }
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString("utf8");
}
