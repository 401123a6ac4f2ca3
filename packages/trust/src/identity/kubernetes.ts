import { ClaimError, type ClaimsReader } from "./claims-reader.ts";
import type { Principal } from "./principal.ts";

const NAME = /^[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?$/;
const UID = /^[0-9a-fA-F-]{1,64}$/;

/**
 * A projected service account token says which runner asks, and nothing of the job on it: all code in
 * the pod can read it, so it is never worth more than a fork.
 *
 * @throws {ClaimError} when the token is not bound to a service account by name and uid.
 * @see Kubernetes' documentation of service account tokens, "Schema for service account private claims".
 */
export function readKubernetesPrincipal(issuer: string, claims: ClaimsReader): Principal {
  const bound = claims.object("kubernetes.io");
  const account = bound?.object("serviceaccount");
  if (bound === undefined || account === undefined) {
    throw new ClaimError("The token names no service account");
  }
  const namespace = bound.requireText("namespace");
  const name = account.requireText("name");
  const uid = account.requireText("uid");
  if (!NAME.test(namespace) || !NAME.test(name) || !UID.test(uid)) {
    throw new ClaimError("The token's service account is malformed");
  }
  return {
    forge: "kubernetes",
    issuer,
    id: `kubernetes:${issuer}:${namespace}/${name}/${uid}`,
    owner: undefined,
    repository: undefined,
    enterprise: undefined,
    ref: undefined,
    refType: undefined,
    isRefProtected: undefined,
    event: undefined,
    pullRequest: undefined,
    fork: "unknown",
    mergeQueue: false,
    environment: undefined,
    run: undefined,
    attempt: undefined,
    commit: undefined,
    workflowRef: undefined,
    runnerEnvironment: undefined,
    actor: undefined,
    serviceAccount: { namespace, name, uid, pod: bound.object("pod")?.text("name") },
  };
}
