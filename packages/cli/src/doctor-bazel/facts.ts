import { isGrpc } from "@glorious/cache-client";

import { findOption, type RcOption } from "../bazel-config/rc-file.ts";
import { matchNetrc } from "../doctor/netrc-match.ts";
import { valueOf } from "../doctor/probe.ts";
import type { CredentialFacts, Snapshot, Target } from "./snapshot.ts";

/** What Bazel sends as `authorization`. Secret. */
export function authorizationOf(credential: CredentialFacts): string | undefined {
  if (credential.kind === "helper") return valueOf(credential.header);
  if (credential.kind === "option") return credential.header;
  const entries = valueOf(credential.netrc.entries) ?? [];
  const password = matchNetrc(entries, credential.host).used?.password;
  if (password === undefined) return undefined;
  return `Basic ${Buffer.from(`flywheel:${password}`).toString("base64")}`;
}

/** The token in it. Secret. */
export function tokenOf(credential: CredentialFacts): string | undefined {
  const [, scheme = "", value = ""] =
    /^(\w+) +(\S+)$/.exec(authorizationOf(credential) ?? "") ?? [];
  if (scheme.toLowerCase() === "bearer") return value;
  if (scheme.toLowerCase() !== "basic") return undefined;
  const decoded = Buffer.from(value, "base64").toString();
  return decoded.slice(decoded.indexOf(":") + 1);
}

/** What is in force for a build. */
export function optionOf({ rc }: Pick<Snapshot, "rc">, name: string): RcOption | undefined {
  return findOption(rc.reading.options, name);
}

/** Where an option stands, in words. */
export function placeOf({ file, line }: RcOption): string {
  return `${file} line ${line}`;
}

/** The command that writes the configuration, for what it was before. */
export function useCommand(target: Target, more: "" | " --http" = ""): string {
  const { view, serverFlag, instanceName, remoteCache } = target;
  const prefix = `${view}/`;
  const rest = instanceName.startsWith(prefix) ? instanceName.slice(prefix.length) : "";
  const http = more === "" && !isGrpc(remoteCache) ? " --http" : more;
  const instance = rest === "" ? "" : ` --instance ${rest}`;
  const readOnly = target.isReadOnly ? " --read-only" : "";
  const uncompressed = target.isUncompressed && http === "" ? " --uncompressed" : "";
  return `flywheel use bazel ${view}${instance}${http}${readOnly}${uncompressed}${serverFlag}`;
}

/** The command that brings a good token to where Bazel finds it. */
export function renewCommand(target: Target): string {
  return `flywheel login ${target.server} && ${useCommand(target)}`;
}

/** How long a build waits for a server, in seconds. */
export interface Patience {
  readonly timeoutSeconds: number;
  /** How often a request is repeated. */
  readonly retries: number;
  /** Both together: what a server that is silent costs. */
  readonly totalSeconds: number;
}

/** Bazel's own defaults hold where the rc files say nothing. */
export function patienceOf(snapshot: Pick<Snapshot, "rc">): Patience {
  const [, count = "60", unit = "s"] =
    /^(\d{1,6})(ms|s|m|h|d)?$/.exec(optionOf(snapshot, "remote_timeout")?.value ?? "") ?? [];
  const seconds = { ms: 0.001, s: 1, m: 60, h: 3600, d: 86_400 }[unit] ?? 1;
  const timeoutSeconds = Number(count) * seconds;
  const written = optionOf(snapshot, "remote_retries")?.value ?? "";
  const retries = /^\d{1,4}$/.test(written) ? Number(written) : 5;
  return { timeoutSeconds, retries, totalSeconds: timeoutSeconds * (retries + 1) };
}
