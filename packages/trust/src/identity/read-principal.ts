import { type ClaimsReader, createClaimsReader } from "./claims-reader.ts";
import { readForgejoPrincipal } from "./forgejo.ts";
import { readGithubPrincipal } from "./github.ts";
import { readGitlabPrincipal } from "./gitlab.ts";
import type { IdentityIssuer } from "./identity-issuer.ts";
import { readKubernetesPrincipal } from "./kubernetes.ts";
import { readOidcPrincipal } from "./oidc.ts";
import type { ForgeKind, Principal } from "./principal.ts";

const READERS: Readonly<
  Record<ForgeKind, (issuer: IdentityIssuer, claims: ClaimsReader) => Principal>
> = {
  github: ({ issuer }, claims) => readGithubPrincipal(issuer, claims),
  gitlab: ({ issuer }, claims) => readGitlabPrincipal(issuer, claims),
  forgejo: ({ issuer }, claims) => readForgejoPrincipal(issuer, claims),
  kubernetes: ({ issuer }, claims) => readKubernetesPrincipal(issuer, claims),
  oidc: readOidcPrincipal,
};

/**
 * What the claims of an issuer's token mean. They must have been verified, or be an operator's own
 * example: nothing here is proven.
 *
 * @throws {ClaimError} naming the claim that is missing or malformed.
 */
export function readPrincipal(
  issuer: IdentityIssuer,
  claims: Readonly<Record<string, unknown>>,
): Principal {
  return READERS[issuer.kind](issuer, createClaimsReader(claims));
}
