import type { BazelRequest, SetupKind, SetupRequest } from "@glorious/runner-agent";

import { describeServer } from "./ancestor-environment.ts";
import {
  readBoolean,
  readChoice,
  readCount,
  readPatterns,
  readSeconds,
  readText,
  readUrl,
  readWords,
} from "./read-inputs.ts";

/** An action's inputs in their final types. */
export interface SetupInputs {
  readonly request: SetupRequest;
  readonly failOnError: boolean;
  /** What is to be kept in the forge's own cache. */
  readonly keeps: readonly SetupKind[];
}

/**
 * Reads the inputs of an action that sets these kinds up; nothing else reads any.
 *
 * @throws {InputError} when the workflow's author got one wrong.
 */
export function readInputs(
  kinds: readonly SetupKind[],
  env: Readonly<Record<string, string | undefined>>,
): SetupInputs {
  const failOnError = readBoolean("fail-on-error", false);
  const named = describeServer(env);
  const forNix = kinds.includes("nix");
  const request: SetupRequest = {
    version: 1,
    kinds,
    serverUrl: readUrl("server-url") ?? named.serverUrl,
    view: readText("cache"),
    extraViews: forNix ? readWords("extra-caches") : [],
    audience: readText("audience"),
    token: readText("token") ?? named.token,
    push: readChoice("push", ["auto", "true", "false"]),
    pushMode: forNix ? readChoice("push-mode", ["auto", "hook", "store-diff", "none"]) : "none",
    pushFilter: forNix ? readPatterns("push-filter") : [],
    configureSubstituter: forNix && readBoolean("configure-substituter", true),
    priority: forNix ? readCount("priority") : undefined,
    timeoutSeconds: readSeconds("timeout", 30),
    drainTimeoutSeconds: readSeconds("drain-timeout", 300),
    cacheMode: env["ACTIONS_CACHE_MODE"],
    bazel: kinds.includes("bazel") ? readBazelInputs() : undefined,
    temporaryDirectory: env["RUNNER_TEMP"],
    workspace: env["GITHUB_WORKSPACE"],
    // The runner's own process, with which the agent ends.
    jobPid: process.ppid,
  };
  const keeps = kinds.filter((kind) =>
    readBoolean(kind === "nix" ? "keep-evaluation" : "keep-repositories", false),
  );
  return { request, failOnError, keeps };
}

function readBazelInputs(): BazelRequest {
  return {
    instanceName: readText("instance-name"),
    rc: readChoice("bazelrc", ["user", "file", "none"]),
    configName: readText("config-name"),
    compression: readBoolean("compression", true),
    download: readChoice("download", ["toplevel", "minimal", "all"]),
    remoteTimeoutSeconds: readSeconds("remote-timeout", 60),
    bazelVersion: readText("bazel-version"),
  };
}
