import type { BlobStore } from "@glorious/storage";

import type { PartUploadRecord, UploadPart } from "../index/part-upload-index.ts";

const PREFIX = "part/";
const AT_ONCE = 8;

type Upload = Pick<PartUploadRecord, "viewId" | "id">;

/**
 * The blob's name of a part. The hash is in it, so that another client's other part of the same number
 * never takes its place.
 */
export function partKey(
  upload: Upload,
  { number, sha256 }: Pick<UploadPart, "number" | "sha256">,
): string {
  return `${uploadPrefix(upload)}${number}-${sha256}`;
}

function uploadPrefix({ viewId, id }: Upload): string {
  return `${PREFIX}${viewId}-${id}-`;
}

/** Those of the parts whose bytes are really there. */
export async function findStoredParts(
  store: BlobStore,
  upload: Upload,
  parts: readonly UploadPart[],
): Promise<UploadPart[]> {
  const stored: UploadPart[] = [];
  for (let start = 0; start < parts.length; start += AT_ONCE) {
    const some = parts.slice(start, start + AT_ONCE);
    const stats = await Promise.all(some.map((part) => store.stat(partKey(upload, part))));
    stored.push(...some.filter((part, at) => stats[at]?.sizeBytes === part.sizeBytes));
  }
  return stored;
}

/** Deletes all parts of an upload, those the index was never told of too. */
export async function deletePartBlobs(store: BlobStore, upload: Upload): Promise<void> {
  const keys = (await Array.fromAsync(store.list(uploadPrefix(upload)))).map(({ key }) => key);
  for (let start = 0; start < keys.length; start += AT_ONCE) {
    await Promise.all(keys.slice(start, start + AT_ONCE).map((key) => store.delete(key)));
  }
}

/** Every part in the store, with the upload it was stored for. */
export async function* listPartBlobs(
  store: BlobStore,
): AsyncGenerator<{ readonly key: string; readonly upload: Upload }> {
  for await (const { key } of store.list(PREFIX)) {
    const [viewId, id] = key.slice(PREFIX.length).split("-");
    yield { key, upload: { viewId: Number(viewId), id: id ?? "" } };
  }
}
