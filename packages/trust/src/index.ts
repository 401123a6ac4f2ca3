export { type Credentials, parseAuthorization } from "./authorization.ts";
export { isAtticCacheName, isCachePattern, matchesCachePattern } from "./cache-pattern.ts";
export {
  CACHE_PERMISSIONS,
  type CachePermission,
  formatPermissions,
  PERMISSION_CODES,
} from "./cache-permission.ts";
export { type DecodedToken, decodeTokenUnverified } from "./decode-token.ts";
export { signToken } from "./sign-token.ts";
export {
  ADMIN_NAMESPACE,
  ATTIC_NAMESPACE,
  formatTokenClaims,
  parseTokenClaims,
  permissionsFor,
  type TokenClaims,
} from "./token-claims.ts";
export type { TokenGrant } from "./token-grant.ts";
export type { HmacTokenKey, RsaTokenKey, TokenKey } from "./token-key.ts";
export {
  createTokenVerifier,
  type TokenRefusal,
  type TokenVerdict,
  type TokenVerifier,
  type TokenVerifierOptions,
} from "./token-verifier.ts";
export { formatViewName, type Overlay, parseViewName, type ViewName } from "./view-name.ts";
export { decideGrant } from "./grant/decide-grant.ts";
export type {
  Adoption,
  ConfirmedName,
  Grant,
  GrantDecision,
  GrantRefusal,
  GrantRequest,
  Trust,
} from "./grant/grant.ts";
export { type ExplainedRule, type Explanation, explainGrant } from "./grant/explain-grant.ts";
export { type OverlayIdentity, overlayName } from "./grant/overlay-name.ts";
export { ClaimError } from "./identity/claims-reader.ts";
export { readUnverifiedIssuer } from "./identity/decode-identity-token.ts";
export {
  type ClaimMapping,
  DEFAULT_IDENTITY_ALGORITHMS,
  IDENTITY_ALGORITHMS,
  type IdentityAlgorithm,
  type IdentityIssuer,
} from "./identity/identity-issuer.ts";
export { type JsonWebKeySet, parseKeySet } from "./identity/key-set.ts";
export type { ForgeKind, NamedId, Principal, ServiceAccount } from "./identity/principal.ts";
export { readPrincipal } from "./identity/read-principal.ts";
export {
  type IdentityContext,
  type IdentityRefusal,
  type IdentityVerdict,
  verifyIdentityToken,
} from "./identity/verify-identity-token.ts";
export { parseTrustPolicy, type PolicyCheck } from "./policy/parse-trust-policy.ts";
export type { PolicyProblem } from "./policy/policy-problem.ts";
export {
  type OverlaySettings,
  type PolicyIssuer,
  policyIssuers,
  type PolicyScope,
  type PolicyTenant,
  type PolicyView,
  quotasOf,
  type ScopeTarget,
  type SharedWriter,
  type TrustedRule,
  type TrustPolicy,
  type ViewSettings,
  viewSettingsOf,
} from "./policy/trust-policy.ts";
