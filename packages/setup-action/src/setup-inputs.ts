import { describeServer } from "./ancestor-environment.ts";
import {
  readBoolean,
  readChoice,
  readCount,
  readPatterns,
  readSeconds,
  readText,
  readUrl,
} from "./read-inputs.ts";
import type { SetupRequest } from "./setup-protocol.ts";

/** What a setup action configures. */
export type Kind = "nix" | "bazel";

/** An action's inputs in their final types. */
export interface SetupInputs {
  readonly request: SetupRequest;
  readonly failOnError: boolean;
  /** What is to be kept in the forge's own cache. */
  readonly keeps: readonly Kind[];
}

/**
 * Reads the inputs of an action that sets these kinds up; nothing else reads any.
 *
 * @throws {InputError} when the workflow's author got one wrong.
 */
export function readInputs(
  kinds: readonly Kind[],
  env: Readonly<Record<string, string | undefined>>,
): SetupInputs {
  const failOnError = readBoolean("fail-on-error");
  const named = describeServer(env);
  const view = readText("cache");
  const serverUrl = readUrl("server-url") ?? named.serverUrl;
  const token = readText("token") ?? named.token;
  const audience = readText("audience");
  const forNix = kinds.includes("nix");
  const pushFilter = forNix ? readPatterns("push-filter") : [];
  const priority = forNix ? readCount("priority") : undefined;
  const request: SetupRequest = {
    version: 1,
    kinds: [...kinds],
    ...(serverUrl === undefined ? {} : { serverUrl }),
    ...(view === undefined ? {} : { view }),
    ...(audience === undefined ? {} : { audience }),
    ...(token === undefined ? {} : { token }),
    push: readChoice("push", ["auto", "true", "false"]),
    pushMode: forNix ? readChoice("push-mode", ["auto", "hook", "store-diff", "none"]) : "none",
    ...(pushFilter.length === 0 ? {} : { pushFilter }),
    configureSubstituter: forNix ? readBoolean("configure-substituter") : false,
    ...(priority === undefined ? {} : { priority }),
    timeoutSeconds: readSeconds("timeout"),
    drainTimeoutSeconds: readSeconds("drain-timeout"),
    failOnError,
    ...(env["ACTIONS_CACHE_MODE"] === undefined ? {} : { cacheMode: env["ACTIONS_CACHE_MODE"] }),
    ...(kinds.includes("bazel") ? { bazel: readBazelInputs() } : {}),
    temporaryDirectory: env["RUNNER_TEMP"] ?? "/tmp",
    // The runner's own process, with which the agent ends.
    jobPid: process.ppid,
    ...(env["GITHUB_WORKSPACE"] === undefined ? {} : { workspace: env["GITHUB_WORKSPACE"] }),
  };
  const keeps = kinds.filter((kind) =>
    readBoolean(kind === "nix" ? "keep-evaluation" : "keep-repositories"),
  );
  return { request, failOnError, keeps };
}

function readBazelInputs(): NonNullable<SetupRequest["bazel"]> {
  const instanceName = readText("instance-name");
  const configName = readText("config-name");
  const bazelVersion = readText("bazel-version");
  return {
    ...(instanceName === undefined ? {} : { instanceName }),
    rc: readChoice("bazelrc", ["user", "file", "none"]),
    ...(configName === undefined ? {} : { configName }),
    compression: readBoolean("compression"),
    download: readChoice("download", ["toplevel", "minimal", "all"]),
    remoteTimeoutSeconds: readSeconds("remote-timeout"),
    ...(bazelVersion === undefined ? {} : { bazelVersion }),
  };
}
