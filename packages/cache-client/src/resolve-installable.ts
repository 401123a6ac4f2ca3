import { CacheError } from "@glorious/core";
import { isStorePathHash } from "@glorious/nix-store";
import * as v from "valibot";

import { type NixCommandOptions, runNix } from "./nix-command.ts";
import { NIX_COMMAND, whatNixSaid } from "./run-nix.ts";

const Built = v.array(
  v.object({ outputs: v.optional(v.record(v.string(), v.nullable(v.string())), {}) }),
);

/**
 * The store paths that an installable's outputs have or would have, as `nix build` names them. Nothing is built, and
 * nothing need be there.
 *
 * @throws {CacheError} `INVALID` with Nix's words when it cannot be evaluated; as `runNix`.
 */
export async function resolveInstallable(
  installable: string,
  options: Pick<NixCommandOptions, "nix" | "signal">,
): Promise<readonly string[]> {
  const features = ["--extra-experimental-features", "flakes"];
  const words = ["build", ...NIX_COMMAND, ...features, "--dry-run", "--no-link", "--json"];
  const result = await runNix([...words, "--", installable], options);
  if (result.exitCode !== 0) {
    throw new CacheError("INVALID", `${installable} cannot be evaluated: ${whatNixSaid(result)}`);
  }
  const built = v.parse(Built, JSON.parse(result.stdout));
  const paths = built.flatMap(({ outputs }) => Object.values(outputs));
  return paths.filter(
    (path) => path !== null && isStorePathHash(path.slice(path.lastIndexOf("/") + 1).slice(0, 32)),
  ) as string[];
}
