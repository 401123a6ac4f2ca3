import { CacheError } from "@glorious/core";
import {
  ClaimError,
  decodeTokenUnverified,
  type Principal,
  readPrincipal,
  type TrustPolicy,
} from "@glorious/trust";

/** Who a file of claims is about; `undefined` parts where the policy or the claims do not say. */
export type ClaimedPrincipal =
  | { readonly kind: "principal"; readonly principal: Principal }
  | {
      readonly kind: "refused";
      readonly code: "unknown-issuer" | "bad-claims";
      readonly reason: string;
    };

/**
 * Reads claims: a JSON object, or an identity token, whose signature is not verified.
 *
 * @throws {CacheError} `INVALID` when the text is neither.
 */
export function parseClaims(text: string): Readonly<Record<string, unknown>> {
  const token = text.trim();
  const decoded = /^[\w-]+\.[\w-]+\.[\w-]*$/.test(token) ? decodeTokenUnverified(token) : undefined;
  if (decoded !== undefined) return decoded.payload;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new CacheError("INVALID", "The claims are no JSON and no token", {
      cause,
      hint: 'Write a token\'s payload, such as {"iss": …, "repository_id": …}.',
    });
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  throw new CacheError("INVALID", "The claims are no JSON object");
}

/**
 * Who the claims are about, read as the policy's issuer of that name means them; without a name, the
 * issuer that the claims themselves name.
 *
 * @throws {CacheError} `INVALID` when the policy has no issuer of the given name.
 */
export function readClaimedPrincipal(
  policy: TrustPolicy,
  claims: Readonly<Record<string, unknown>>,
  issuerName: string | undefined,
): ClaimedPrincipal {
  const issuer = policy.issuers.find(({ name, issuer: iss }) =>
    issuerName === undefined ? iss === claims["iss"] : name === issuerName,
  );
  if (issuer === undefined && issuerName !== undefined) {
    const names = policy.issuers.map(({ name }) => name).join(", ");
    throw new CacheError("INVALID", `The policy has no issuer ${JSON.stringify(issuerName)}`, {
      hint: `It has ${names === "" ? "none" : names}.`,
    });
  }
  if (issuer === undefined) {
    return {
      kind: "refused",
      code: "unknown-issuer",
      reason: "The claims name no issuer of the policy.",
    };
  }
  try {
    return { kind: "principal", principal: readPrincipal({ ...issuer, audiences: [] }, claims) };
  } catch (error) {
    if (!(error instanceof ClaimError)) throw error;
    return { kind: "refused", code: "bad-claims", reason: `${error.message}.` };
  }
}

/** A principal for people. */
export function describePrincipal(principal: Principal): Array<readonly [string, string]> {
  const { repository, owner, serviceAccount, ref, event, environment } = principal;
  const facts: Array<readonly [string, string | undefined]> = [
    ["issuer", principal.issuer],
    ["repository", repository && describeNamed(repository.name, repository.id)],
    ["owner", owner && describeNamed(owner.name, owner.id)],
    ["service account", serviceAccount && `${serviceAccount.namespace}/${serviceAccount.name}`],
    ["ref", ref],
    ["event", event],
    ["environment", environment],
    ["fork's code", serviceAccount === undefined ? principal.fork : undefined],
  ];
  return facts.flatMap(([name, fact]) => (fact === undefined ? [] : [[name, fact] as const]));
}

function describeNamed(name: string | undefined, id: string | undefined): string {
  return `${name ?? "(no name)"}, ${id === undefined ? "no id" : `id ${id}`}`;
}
