import { isGrpc } from "@glorious/cache-client";

import type { RcOption } from "../../bazel-config/rc-file.ts";
import { failure, ok, skipped, type Verdict, warning } from "../../doctor/finding.ts";
import { valueOf } from "../../doctor/probe.ts";
import { optionOf, placeOf, useCommand } from "../facts.ts";
import type { Snapshot } from "../snapshot.ts";

/** Of all --remote_cache that Bazel reads, the last is ours. */
export function checkRemoteCache(snapshot: Snapshot): Verdict {
  const { target } = snapshot;
  const option = optionOf(snapshot, "remote_cache");
  if (option === undefined) {
    return failure(
      "no rc file names a remote cache",
      "Bazel builds without one.",
      useCommand(target),
    );
  }
  const { value } = option;
  const edit = `"\${EDITOR:-vi}" +${option.line} ${option.file}`;
  if (value === "") {
    return failure(
      `${placeOf(option)} switches the cache off: --remote_cache=`,
      "The last line that names a cache wins.",
      edit,
    );
  }
  if (isGrpc(value) && value.includes("@")) {
    return failure(
      `${placeOf(option)} has a name and a password in an address of gRPC`,
      "They do not belong there: the server takes the address for malformed.",
      useCommand(target),
    );
  }
  if (value.replace(/\/+$/, "") !== target.remoteCache.replace(/\/+$/, "")) {
    return failure(
      `${placeOf(option)} names another cache: ${withoutSecrets(value)}`,
      `The last line that names a cache wins; the view is at ${target.remoteCache}.`,
      edit,
    );
  }
  const instance = optionOf(snapshot, "remote_instance_name");
  if (isGrpc(value) && (instance?.value ?? "") !== target.instanceName) {
    return failure(
      instance === undefined
        ? "no rc file names the view: --remote_instance_name is missing"
        : `${placeOf(instance)} names another view: --remote_instance_name=${instance.value}`,
      `What belongs together is kept under ${target.instanceName}.`,
      instance === undefined
        ? useCommand(target)
        : `"\${EDITOR:-vi}" +${instance.line} ${instance.file}`,
    );
  }
  return ok(`Bazel uses ${value}, as ${placeOf(option)} says`);
}

/** Nothing takes back what keeps a build alive, or what shares results. */
export function checkOptions(snapshot: Snapshot): Verdict {
  const { rc, target, bazel } = snapshot;
  if (optionOf(snapshot, "remote_cache") === undefined) return skipped("there is no remote cache");
  const accepts = optionOf(snapshot, "remote_accept_cached");
  if (accepts?.value === "false") {
    return failure(
      `${placeOf(accepts)} takes no results from the cache: --noremote_accept_cached`,
      "Bazel builds everything by itself.",
      editCommand(accepts),
    );
  }
  const fallback = optionOf(snapshot, "remote_local_fallback");
  if (fallback?.value !== "true") {
    const isOld = (valueOf(bazel.release)?.major ?? 7) < 7;
    return (isOld ? failure : warning)(
      fallback === undefined
        ? "no rc file says --remote_local_fallback"
        : `${placeOf(fallback)} takes --remote_local_fallback back`,
      isOld
        ? "Bazel 4 ends the build with 34 when nothing listens at the cache's address."
        : "What the cache cannot give is to be built here.",
      fallback === undefined ? useCommand(target) : editCommand(fallback),
    );
  }
  const header = rc.reading.options.find(
    ({ name, value }) => /^remote_(cache_)?header$/.test(name) && /^authorization=/i.test(value),
  );
  if (header !== undefined) {
    return warning(
      `${placeOf(header)} has a token in it`,
      "Options show in build events and process lists; a credential helper keeps the token out of them.",
      useCommand(target),
    );
  }
  const overruled = rc.reading.options.filter(
    (option) =>
      option.file !== rc.ownRcPath &&
      OURS.has(option.name) &&
      optionOf(snapshot, option.name) === option &&
      rc.reading.options.some(
        (other) =>
          other.file === rc.ownRcPath && other.name === option.name && other.value !== option.value,
      ),
  );
  const [first] = overruled;
  if (first === undefined) return ok("no other line changes what our rc file says");
  return warning(
    `other lines change what our rc file says: ${overruled.map(describe).join(", ")}`,
    "The last line wins, and lines for `build` win over those for `common`.",
    editCommand(first),
  );
}

const OURS: ReadonlySet<string> = new Set([
  "remote_timeout",
  "remote_retries",
  "remote_retry_max_delay",
  "remote_upload_local_results",
  "remote_cache_compression",
  "experimental_circuit_breaker_strategy",
  "experimental_guard_against_concurrent_changes",
  "experimental_remote_cache_eviction_retries",
]);

function describe(option: RcOption): string {
  return `--${option.name}=${option.value} (${placeOf(option)})`;
}

function editCommand({ file, line }: RcOption): string {
  return `"\${EDITOR:-vi}" +${line} ${file}`;
}

function withoutSecrets(address: string): string {
  return address.replace(/\/\/[^/@]*@/, "//");
}
