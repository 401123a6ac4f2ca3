import {
  type BazelRelease,
  formatBazelRc,
  isAtLeast,
  isGrpc,
  mayPush,
} from "@glorious/cache-client";

import { bazelPaths } from "../../bazel-config/bazel-files.ts";
import { findOption, type RcOption, readRcText } from "../../bazel-config/rc-file.ts";
import type { CliContext } from "../../cli-context.ts";
import { known, notTried, type Probe, reasonOf, valueOf } from "../../doctor/probe.ts";
import type { ViewFacts } from "../snapshot.ts";
import type { GatheredRc } from "./gather-rc.ts";

/** What `use bazel` would write now, with the choices that the present file shows. */
export function planWantedRc(
  facts: {
    readonly rc: GatheredRc;
    readonly release: Probe<BazelRelease>;
    readonly view: Probe<ViewFacts>;
    readonly remoteCache: string;
    readonly instanceName: string;
    readonly token: string | undefined;
  },
  { view: viewName, context }: { readonly view: string; readonly context: CliContext },
): Probe<string> {
  const { rc, release, view, remoteCache, instanceName, token } = facts;
  if (release.state !== "known")
    return notTried(`Bazel's version is unknown: ${reasonOf(release)}`);
  if (rc.ownRc === undefined) return notTried(`${rc.ownRcPath} is not there`);
  const present = readRcText(rc.ownRc, rc.ownRcPath);
  const offered = valueOf(view);
  const rest = instanceName.slice(viewName.length);
  const address = isGrpc(remoteCache) ? offered?.grpc : offered?.http && `${offered.http}${rest}`;
  const hasHelper =
    isAtLeast(release.value, 7, 0) &&
    (token !== undefined || findOption(present, "credential_helper") !== undefined);
  const wantsUploads = findOption(present, "remote_upload_local_results")?.value !== "false";
  const scope = rc.ownRcPath === bazelPaths("system", context).ownRc ? "system" : "user";
  return known(
    formatBazelRc({
      release: release.value,
      remoteCache: address ?? remoteCache,
      instanceName,
      mayPush: wantsUploads && mayPush(token, viewName),
      isCompressed: findOption(present, "remote_cache_compression") !== undefined,
      credentialHelper: hasHelper ? bazelPaths(scope, context).credentialHelper : undefined,
    }),
  );
}

/** The choices that our rc file shows, for a remedy that writes it anew. */
export function choicesOf(
  written: readonly RcOption[],
  { view, token }: { readonly view: string; readonly token: string | undefined },
): { readonly isReadOnly: boolean; readonly isUncompressed: boolean } {
  return {
    isReadOnly:
      findOption(written, "remote_upload_local_results")?.value === "false" && mayPush(token, view),
    isUncompressed:
      // Written for a Bazel that could have compressed.
      findOption(written, "remote_retry_max_delay") !== undefined &&
      findOption(written, "remote_cache_compression") === undefined,
  };
}
