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
export { formatViewName, parseViewName, type ViewName } from "./view-name.ts";
