import { join } from "node:path";

import {
  type BazelRelease,
  isAtLeast,
  isGrpc,
  runProgram,
  toHttpUrl,
} from "@glorious/cache-client";

import type { RcOption } from "../../bazel-config/rc-file.ts";
import type { CliContext } from "../../cli-context.ts";
import { gatherNetrc } from "../../doctor/gather-netrc.ts";
import { attempt } from "../../doctor/probe.ts";
import { homeFolder } from "../../user-folders.ts";
import type { CredentialFacts } from "../snapshot.ts";

/** What {@link gatherCredential} goes by. */
export interface CredentialQuestion {
  readonly remoteCache: string;
  readonly options: readonly RcOption[];
  readonly release: BazelRelease | undefined;
}

/** As long as Bazel gives it. */
const HELPER_TIMEOUT_MS = 10_000;

/** Looks for the token as Bazel does: a header among the options, the helper of the host, the netrc file. */
export async function gatherCredential(
  { remoteCache, options, release }: CredentialQuestion,
  context: CliContext,
): Promise<CredentialFacts> {
  const header = options.findLast(
    ({ name, value }) => /^remote_(cache_)?header$/.test(name) && /^authorization=/i.test(value),
  );
  if (header !== undefined) {
    const { file, line, value } = header;
    return { kind: "option", file, line, header: value.slice("authorization=".length) };
  }
  const url = toHttpUrl(remoteCache);
  const knowsHelpers = release === undefined || isAtLeast(release, 7, 0);
  const command = knowsHelpers ? chooseHelper(options, url.hostname) : undefined;
  if (command === undefined) {
    const host = url.hostname.replace(/^\[(.*)\]$/, "$1");
    const path = context.env["NETRC"] ?? join(homeFolder(context.env), ".netrc");
    return { kind: "netrc", host, netrc: await gatherNetrc(path) };
  }
  // Bazel says https whatever it speaks, and over gRPC the name of the service.
  const path = isGrpc(remoteCache) ? "/build.bazel.remote.execution.v2.Capabilities" : url.pathname;
  const uri = `https://${url.host}${path}`;
  return {
    kind: "helper",
    command,
    header: await attempt(() => askHelper(command, uri, context)),
  };
}

/** Of several helpers Bazel takes the one with the most exact pattern. */
function chooseHelper(options: readonly RcOption[], host: string): string | undefined {
  const helpers = options
    .filter(({ name }) => name === "credential_helper")
    .map(({ value }) => {
      const at = value.indexOf("=");
      return { pattern: value.slice(0, Math.max(0, at)), path: value.slice(at + 1) };
    });
  const suffixOf = (pattern: string): string => pattern.slice(1);
  const matching = helpers.filter(
    ({ pattern }) =>
      pattern === "" ||
      pattern === host ||
      (pattern.startsWith("*.") && host.endsWith(suffixOf(pattern))),
  );
  const rank = (pattern: string): number => (pattern === host ? Infinity : pattern.length);
  return matching.toSorted((left, right) => rank(left.pattern) - rank(right.pattern)).at(-1)?.path;
}

async function askHelper(
  command: string,
  uri: string,
  { env, signal, workingDirectory }: CliContext,
): Promise<string | undefined> {
  const { exitCode, stdout } = await runProgram(command, ["get"], {
    env,
    signal,
    cwd: workingDirectory,
    input: JSON.stringify({ uri }),
    timeoutMs: HELPER_TIMEOUT_MS,
  });
  // Neither output may show: there could be a token in it.
  if (exitCode !== 0) throw new Error(`it ended with ${exitCode}`);
  let answer: unknown;
  try {
    answer = JSON.parse(stdout);
  } catch {
    throw new Error("what it says is no JSON");
  }
  const headers = new Map<string, unknown>(Object.entries(answer ?? {})).get("headers");
  const found = Object.entries(headers ?? {}).find(
    ([name]) => name.toLowerCase() === "authorization",
  );
  const values: unknown = found?.[1];
  const [value]: unknown[] = Array.isArray(values) ? values : [];
  return typeof value === "string" ? value : undefined;
}
