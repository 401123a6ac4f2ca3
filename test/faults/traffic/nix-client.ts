import path from "node:path";

import { type PathInfo, queryClosure } from "@glorious/cache-client";
import { createNixSandbox, findNixVersions, type NixSandbox } from "@glorious/testkit";

import type { History } from "../history/history.ts";
import type { Target } from "./clients.ts";

/** Real store paths, and a real Nix that copies them. */
export interface NixClient extends AsyncDisposable {
  /** `nix copy --to`, which knows no closures: each path counts on its own. @throws when Nix fails. */
  copy(target: Target, paths: readonly PathInfo[], history: History): Promise<void>;
  /** Builds a path and one that refers to it, in no particular order. */
  build(): Promise<PathInfo[]>;
}

/** With the newest Nix of this machine; `undefined` without any. */
export async function openNixClient(): Promise<NixClient | undefined> {
  const nix = findNixVersions().at(-1);
  if (nix === undefined) return undefined;
  const sandbox = await createNixSandbox(nix);
  return {
    async build() {
      const storePath = await sandbox.buildPath(
        `let low = mkPath { name = "low"; script = "echo low $unique > $out"; };
         in mkPath { name = "high"; script = "echo $deps > $out"; deps = [ low ]; }`,
      );
      const command = path.join(nix.binDirectory, "nix");
      return queryClosure([storePath], { nix: command, recursive: true });
    },
    async copy(target, paths, history) {
      const references = new Set(paths.flatMap((each) => each.references));
      const top = paths.find(({ storePath }) => !references.has(storePath.baseName));
      if (top === undefined) throw new Error("Every path is referred to by another");
      await using session = await createNixSandbox(nix, { netrc: [{ password: target.token }] });
      await history.record({ kind: "push", paths, isAtomic: false }, () =>
        runCopy(session, target, top),
      );
    },
    [Symbol.asyncDispose]: () => sandbox[Symbol.asyncDispose](),
  };
}

async function runCopy(session: NixSandbox, { url, view }: Target, top: PathInfo): Promise<void> {
  const to = `${url}/${view}?compression=zstd`;
  await session.output("nix", ["copy", "--to", to, top.storePath.path], { timeoutMs: 60_000 });
}
