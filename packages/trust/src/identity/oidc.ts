import { MAX_PULL_REQUEST_NUMBER } from "../view-name.ts";
import { ClaimError, type ClaimsReader } from "./claims-reader.ts";
import { readRef, type RefFacts } from "./git-ref.ts";
import { namedId } from "./github.ts";
import type { ClaimMapping, IdentityIssuer } from "./identity-issuer.ts";
import type { Principal } from "./principal.ts";

// Other services' ids are no numbers: UUIDs, mostly.
const OPAQUE_ID = /^[\u0021-\u007e]{1,200}$/;

/**
 * Reads the claims that the operator named. Without a claim for forks, and without the operator's word
 * that the issuer serves none, every run counts as a fork's.
 *
 * @throws {ClaimError} when the repository's id is missing, or a claim is malformed.
 */
export function readOidcPrincipal(issuer: IdentityIssuer, claims: ClaimsReader): Principal {
  const mapping = issuer.claims;
  if (mapping === undefined) throw new ClaimError("The issuer has no claim mapping");
  const text = (name: string | undefined): string | undefined =>
    name === undefined ? undefined : claims.text(name);
  const id = (name: string | undefined): string | undefined => {
    const value = name === undefined ? undefined : readId(claims, name);
    if (value === undefined || OPAQUE_ID.test(value)) return value;
    throw new ClaimError(`The claim ${JSON.stringify(name)} is no id`);
  };
  const flag = (name: string | undefined): boolean | undefined =>
    name === undefined ? undefined : claims.flag(name);

  const ownerId = id(mapping.ownerId);
  const repositoryId = id(mapping.repositoryId);
  if (repositoryId === undefined) {
    throw new ClaimError(`The claim ${JSON.stringify(mapping.repositoryId)} is missing`);
  }
  const owner = ownerId === undefined ? "" : `owner/${encodeURIComponent(ownerId)}:`;
  return {
    ...readMappedRef(mapping, claims, text),
    forge: "oidc",
    issuer: issuer.issuer,
    id: `oidc:${issuer.issuer}:${owner}repo/${encodeURIComponent(repositoryId)}`,
    owner: namedId(ownerId, text(mapping.ownerName)),
    repository: { id: repositoryId, name: text(mapping.repositoryName) },
    enterprise: undefined,
    isRefProtected: flag(mapping.refProtected),
    event: text(mapping.event),
    fork: judgeFork(issuer, flag(mapping.fork)),
    mergeQueue: false,
    environment: text(mapping.environment),
    run: text(mapping.run),
    attempt: text(mapping.attempt),
    commit: text(mapping.commit),
    workflowRef: text(mapping.workflow),
    runnerEnvironment: undefined,
    actor: undefined,
    serviceAccount: undefined,
  };
}

function readMappedRef(
  mapping: ClaimMapping,
  claims: ClaimsReader,
  text: (name: string | undefined) => string | undefined,
): RefFacts {
  const tag = text(mapping.tag);
  const branch = text(mapping.branch);
  const full = tag === undefined ? branch && `refs/heads/${branch}` : `refs/tags/${tag}`;
  const facts = readRef(text(mapping.ref) ?? full);
  const number = mapping.pullRequest === undefined ? undefined : claims.id(mapping.pullRequest);
  if (number === undefined) return facts;
  if (Number(number) > MAX_PULL_REQUEST_NUMBER) {
    throw new ClaimError(`The claim ${JSON.stringify(mapping.pullRequest)} is too large`);
  }
  return { ...facts, refType: "pull", pullRequest: Number(number) };
}

function readId(claims: ClaimsReader, name: string): string | undefined {
  try {
    return claims.text(name);
  } catch {
    return claims.id(name);
  }
}

function judgeFork(issuer: IdentityIssuer, fork: boolean | undefined): Principal["fork"] {
  if (fork !== undefined) return fork ? "yes" : "no";
  return issuer.neverForks === true ? "no" : "unknown";
}
