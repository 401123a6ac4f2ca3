import { CacheError } from "@glorious/core";

/** Where a Nix store's files lie on this machine. */
export interface StoreLocation {
  /** The store directory in the names of its paths: `/nix/store`. */
  readonly storeDir: string;
  /** The directory that really holds `<hash>-<name>`. */
  readonly realStoreDir: string;
}

/**
 * Tells where the files of the store that `--store` names lie.
 *
 * `undefined`, `auto`, `daemon`, `local` and `unix://…` are this machine's own store; `local?root=DIR`
 * and a bare `/DIR` are a store below another root; `real=DIR` names the directory itself.
 *
 * @throws {CacheError} `UNSUPPORTED` for stores whose files are not on this machine.
 * @see `nix help-stores`
 */
export function locateStore(store: string | undefined, storeDir: string): StoreLocation {
  const [address = "", query = ""] = (store ?? "auto").split("?", 2);
  const parameters = new URLSearchParams(query);
  const isLocal =
    address.startsWith("/") ||
    ["", "auto", "daemon", "local", "local://"].includes(address) ||
    address.startsWith("unix://");
  if (!isLocal) {
    throw new CacheError("UNSUPPORTED", `The files of store ${address} are not on this machine`, {
      hint: "Copy the paths into a local store first, or name a local one such as local?root=/some/dir.",
    });
  }
  const root = address.startsWith("/") ? address : (parameters.get("root") ?? "");
  const realStoreDir = parameters.get("real") ?? `${root.replace(/\/+$/, "")}${storeDir}`;
  return { storeDir, realStoreDir: realStoreDir.replace(/\/+$/, "") };
}
