import { readFile } from "node:fs/promises";

import { CacheError } from "@glorious/core";
import { decodeTokenUnverified } from "@glorious/trust";
import * as v from "valibot";

import { parseAnswer } from "../cache-config.ts";
import { createShortClient } from "../short-client.ts";
import { detectForge, type Environment, type JobForge } from "./detect-forge.ts";
import type { RunnerConfig } from "./runner-config.ts";

/** Where a job's identity tokens come from. It can be kept, to get another one later. */
export type IdentitySource =
  /** The forge gives one to who asks this address with this token. Both are secret. */
  | { readonly kind: "request"; readonly url: string; readonly requestToken: string }
  /** The forge gave one at the job's start. Secret. */
  | { readonly kind: "token"; readonly token: string }
  /** A file that somebody keeps fresh. */
  | { readonly kind: "file"; readonly path: string };

/** What was found, or what to do so that something is. */
export type FoundIdentity =
  | { readonly kind: "found"; readonly source: IdentitySource }
  | { readonly kind: "none"; readonly forge: JobForge | undefined; readonly hint: string };

/** How long the forge may take for an identity token, all in all. */
const REQUEST_TIMEOUT_MS = 10_000;
// A forge's are a few KiB.
const MAX_TOKEN_CHARS = 64 * 1024;

const HINTS: Readonly<Record<JobForge | "none", string>> = {
  github: "Give the job `permissions: { id-token: write }`. Pull requests of forks never get one.",
  forgejo: "Give the job `enable-openid-connect: true`.",
  gitea:
    "Gitea gives jobs no identity: give a token of the server as a secret, or the runner an identity that reads.",
  gitlab: "Give the job `id_tokens: { FLYWHEEL_ID_TOKEN: { aud: <the server's address> } }`.",
  none: "Run it in a forge's job, set FLYWHEEL_ID_TOKEN, or name a token file in FLYWHEEL_RUNNER_CONFIG.",
};

/**
 * Finds out where this job's identity comes from: what it was given by name, what its forge gives on request, and last
 * what its runner is, which is worth least. Finding none is no error: a job without the permission reads what is public.
 */
export function findIdentity(env: Environment, runner: RunnerConfig): FoundIdentity {
  const given = env["FLYWHEEL_ID_TOKEN"];
  if (isGiven(given) && !isForNobody(given))
    return { kind: "found", source: { kind: "token", token: given } };
  const url = env["ACTIONS_ID_TOKEN_REQUEST_URL"];
  const requestToken = env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"];
  if (isGiven(url) && isGiven(requestToken)) {
    return { kind: "found", source: { kind: "request", url, requestToken } };
  }
  const path = runner.identityTokenFile;
  if (path !== undefined) return { kind: "found", source: { kind: "file", path } };
  const forge = detectForge(env);
  return { kind: "none", forge, hint: HINTS[forge ?? "none"] };
}

function isGiven(text: string | undefined): text is string {
  return text !== undefined && text.trim() !== "";
}

/** GitLab makes a token also where the variable that `aud` names is not set: such a job has said nothing. */
function isForNobody(token: string): boolean {
  const aud: unknown = decodeTokenUnverified(token)?.payload["aud"];
  return typeof aud === "string" && (aud === "" || aud.startsWith("$"));
}

/**
 * Gets an identity token for `audience`.
 *
 * One that was made for somebody else is not handed out: whoever gets it could go there with it.
 *
 * @throws {CacheError} `CONFIG` when it is for another audience or there is none, `TIMEOUT` or `UNAVAILABLE` when the
 *   forge does not answer. No message holds a token.
 */
export async function obtainIdentityToken(
  source: IdentitySource,
  audience: string,
  signal?: AbortSignal,
): Promise<string> {
  const token = (await readSource(source, audience, signal)).trim();
  if (!/^[\x21-\x7E]+$/.test(token) || token.length > MAX_TOKEN_CHARS) {
    throw new CacheError("CONFIG", `${describeSource(source)} holds no identity token`);
  }
  requireAudience(token, audience, source);
  return token;
}

async function readSource(
  source: IdentitySource,
  audience: string,
  signal: AbortSignal | undefined,
): Promise<string> {
  if (source.kind === "token") return source.token;
  if (source.kind === "file") return readTokenFile(source.path);
  return askForge(source, audience, signal);
}

async function readTokenFile(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    throw new CacheError("CONFIG", `The runner's identity ${path} cannot be read`, {
      cause,
      hint: "FLYWHEEL_RUNNER_CONFIG names it; it must be mounted into the job, and readable.",
    });
  }
}

const RequestAnswer = v.object({ value: v.pipe(v.string(), v.minLength(1)) });

async function askForge(
  { url, requestToken: token }: Extract<IdentitySource, { kind: "request" }>,
  audience: string,
  signal: AbortSignal | undefined,
): Promise<string> {
  const address = URL.parse(url);
  if (address === null || !/^https?:$/.test(address.protocol)) {
    throw new CacheError("CONFIG", "ACTIONS_ID_TOKEN_REQUEST_URL is no address");
  }
  // The address has a query already.
  address.searchParams.set("audience", audience);
  const line = `GET ${address.origin}${address.pathname}`;
  const timeout = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
  await using http = createShortClient({ token });
  try {
    const all = signal === undefined ? timeout : AbortSignal.any([signal, timeout]);
    const { text } = await http.send("GET", address, { signal: all });
    return parseAnswer(RequestAnswer, text, line).value;
  } catch (error) {
    if (!timeout.aborted || signal?.aborted === true) throw error;
    throw new CacheError("TIMEOUT", `${line}: the forge gave no identity token in 10 s`, {
      cause: error,
    });
  }
}

function requireAudience(token: string, audience: string, source: IdentitySource): void {
  const aud: unknown = decodeTokenUnverified(token)?.payload["aud"];
  const named = (Array.isArray(aud) ? (aud as readonly unknown[]) : [aud]).filter(
    (name) => typeof name === "string",
  );
  // What cannot be read the server judges.
  if (named.length === 0 || named.some((name) => sameAddress(name, audience))) return;
  const hint =
    source.kind === "token"
      ? `Write \`id_tokens: { FLYWHEEL_ID_TOKEN: { aud: ${audience} } }\` in the job.`
      : `Its audience must be ${audience}.`;
  throw new CacheError(
    "CONFIG",
    `${describeSource(source)} is for another service than ${audience}`,
    { hint },
  );
}

/** People write an address with and without its final slash. */
function sameAddress(a: string, b: string): boolean {
  return a.replace(/\/$/, "") === b.replace(/\/$/, "");
}

function describeSource(source: IdentitySource): string {
  if (source.kind === "token") return "The identity token in FLYWHEEL_ID_TOKEN";
  return source.kind === "file"
    ? `The identity token in ${source.path}`
    : "The identity token of the forge";
}
