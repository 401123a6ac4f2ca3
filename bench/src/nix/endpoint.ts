import { parseNarInfo } from "@glorious/nix-store";

/** A binary cache to measure: ours, nginx or a peer. */
export interface Endpoint {
  readonly name: string;
  /** Without a final slash. */
  readonly url: string;
  readonly token?: string | undefined;
  /** PEM file of the authority its certificate is from. */
  readonly caFile?: string | undefined;
}

/** What an endpoint serves of the corpus. */
export interface Contents {
  /** Request paths, with their leading slash. */
  readonly narInfos: readonly string[];
  readonly nars: readonly { readonly path: string; readonly sizeBytes: number | undefined }[];
  /** The narinfo texts, by store path hash. */
  readonly texts: ReadonlyMap<string, string>;
}

/** Reads every narinfo of the closure. @throws {Error} when one is not there. */
export async function readContents(
  endpoint: Endpoint,
  paths: readonly string[],
): Promise<Contents> {
  const base = new URL(endpoint.url).pathname.replace(/\/$/, "");
  const narInfos: string[] = [];
  const nars: { path: string; sizeBytes: number | undefined }[] = [];
  const texts = new Map<string, string>();
  for (const storePath of paths) {
    const hash = storePath.slice("/nix/store/".length).slice(0, 32);
    const response = await fetch(`${endpoint.url}/${hash}.narinfo`, {
      headers: endpoint.token === undefined ? {} : { authorization: `Bearer ${endpoint.token}` },
    });
    const text = await response.text();
    if (!response.ok)
      throw new Error(`${endpoint.name} answers ${response.status} for ${hash}.narinfo`);
    const info = parseNarInfo(text);
    narInfos.push(`${base}/${hash}.narinfo`);
    nars.push({ path: `${base}/${info.url}`, sizeBytes: info.fileSize });
    texts.set(hash, text);
  }
  return { narInfos, nars, texts };
}
