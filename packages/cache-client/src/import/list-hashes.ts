import { CacheError } from "@glorious/core";

import type { Download } from "../http-download.ts";
import { findNames, hashesOf, type NamePattern } from "./find-names.ts";

/** A bucket's page has at most a thousand names. */
const MAX_PAGE_BYTES = 16 * 2 ** 20;
const HEAD_BYTES = 512;

/** What listing needs of a reader. */
interface ListingReader {
  open(url: URL, signal: AbortSignal | undefined): Promise<Download | undefined>;
}

/**
 * Lists a cache by what its address answers: a web server's directory page, or the XML of an S3 bucket, page by page.
 * A given index may also be a plain list of store paths, or our own server's list of a view.
 *
 * @throws {CacheError} `UNSUPPORTED` when nothing in the answer names a path.
 */
export async function* listHashes(
  reader: ListingReader,
  { base, index }: { readonly base: URL; readonly index?: URL | undefined },
  signal: AbortSignal | undefined,
): AsyncGenerator<string, void, undefined> {
  const first = index ?? withQuery(base, { "list-type": "2" });
  const pattern: NamePattern = index === undefined ? "narinfos" : "paths";
  let found = 0;
  for (let url: URL | undefined = first; url !== undefined;) {
    const download = await reader.open(url, signal);
    if (download === undefined) break;
    const body = download.body[Symbol.asyncIterator]();
    const head = await readHead(body);
    if (!/<ListBucketResult|^\s*\{\s*"paths"/.test(head.toString("latin1"))) {
      for await (const hash of findNames(joined(head, body), pattern)) {
        found += 1;
        yield hash;
      }
      break;
    }
    const page = await readPage(joined(head, body), url);
    for (const hash of hashesOf(page.split(/[^0-9A-Za-z._+?=-]+/), pattern)) {
      found += 1;
      yield hash;
    }
    const next = nextPage(page, first);
    // A source that names the same page again has no end.
    url = next?.href === url.href ? undefined : next;
  }
  if (found > 0) return;
  throw new CacheError("UNSUPPORTED", `${first.href} does not list what the cache holds`, {
    hint: "Name what does with --index: a list of store paths, one a line, or an address of one.",
  });
}

function nextPage(page: string, first: URL): URL | undefined {
  const after = /"next"\s*:\s*"([^"\\]+)"\s*\}\s*$/.exec(page)?.[1];
  if (after !== undefined) return withQuery(first, { after });
  if (!/<IsTruncated>true<\/IsTruncated>/.test(page)) return undefined;
  const token = /<NextContinuationToken>([^<]+)<\/NextContinuationToken>/.exec(page)?.[1];
  if (token === undefined) return undefined;
  return withQuery(first, { "list-type": "2", "continuation-token": unescapeXml(token) });
}

function unescapeXml(text: string): string {
  return text.replaceAll("&#43;", "+").replaceAll("&#x3D;", "=").replaceAll("&amp;", "&");
}

function withQuery(url: URL, parameters: Readonly<Record<string, string>>): URL {
  const result = new URL(url);
  for (const [name, value] of Object.entries(parameters)) result.searchParams.set(name, value);
  return result;
}

async function readHead(body: AsyncIterator<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  while (sizeBytes < HEAD_BYTES) {
    const next = await body.next();
    if (next.done === true) break;
    chunks.push(next.value);
    sizeBytes += next.value.length;
  }
  return Buffer.concat(chunks);
}

async function* joined(
  head: Buffer,
  body: AsyncIterator<Buffer>,
): AsyncGenerator<Buffer, void, undefined> {
  try {
    yield head;
    for (let next = await body.next(); next.done !== true; next = await body.next()) {
      yield next.value;
    }
  } finally {
    await body.return?.();
  }
}

async function readPage(pieces: AsyncIterable<Buffer>, url: URL): Promise<string> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const piece of pieces) {
    sizeBytes += piece.length;
    if (sizeBytes > MAX_PAGE_BYTES) {
      throw new CacheError("TOO_LARGE", `A page of the listing ${url.href} is too large`);
    }
    chunks.push(piece);
  }
  return Buffer.concat(chunks).toString("utf8");
}
