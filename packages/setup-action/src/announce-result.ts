import * as core from "@actions/core";
import type { SetupResult } from "@glorious/runner-agent";

/** Sets the outputs and says in a few lines what the job has; each cause is one annotation. */
export function announceResult(result: SetupResult, failOnError: boolean): void {
  const outputs: Record<string, string> = {
    status: result.status,
    reason: result.reason,
    tenant: result.tenant ?? "",
    cache: result.cache ?? "",
    "extra-caches": result.extraCaches.join(" "),
    trust: result.trust ?? "",
    "can-push": String(result.canPush),
    "push-mode": result.pushMode,
    substituter: result.substituter ?? "",
    "public-key": result.publicKeys.join(" "),
    "bazelrc-path": result.bazel?.rcPath ?? "",
    "remote-cache": result.bazel?.remoteCache ?? "",
    "credential-helper": result.bazel?.credentialHelper ?? "",
  };
  for (const [name, value] of Object.entries(outputs)) core.setOutput(name, value);
  const already = result.existing ? "Found the cache already set up" : "Cache";
  core.info(`${already}: ${result.status}. ${result.reason}`);
  for (const line of result.hint ?? []) core.info(`  ${line}`);
  for (const { message, hint } of result.warnings) {
    core.warning(hint === undefined ? message : `${message.replace(/\.$/, "")}. ${hint}`);
  }
  if (failOnError && result.status === "degraded") {
    core.setFailed(`fail-on-error is set, and the cache is degraded: ${result.reason}`);
  }
}
