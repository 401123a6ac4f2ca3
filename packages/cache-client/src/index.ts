export {
  type AdminClient,
  type AdminClientOptions,
  createAdminClient,
  type CreatedToken,
  type NewToken,
  type NewView,
  type PermissionLetter,
  type ServerInfo,
  type SigningKey,
  type SigningKeys,
  type ViewChange,
  type ViewInfo,
  type ViewBazelStats,
  type ViewStats,
} from "./admin-client.ts";
export { type CacheConfig, type FlywheelConfig, type RetentionPeriod } from "./cache-config.ts";
export type { Clock } from "./clock.ts";
export {
  chooseAudience,
  createExchangeClient,
  type Discovery,
  type ExchangeClient,
  type ExchangeClientOptions,
  type ExchangedToken,
  type ExchangeWish,
  type JobGrant,
} from "./identity/exchange-client.ts";
export {
  findIdentity,
  type FoundIdentity,
  type IdentitySource,
  obtainIdentityToken,
} from "./identity/identity-source.ts";
export type {
  NewUpstream,
  Upstream,
  UpstreamTrial,
  ViewUpstream,
  ViewUpstreams,
} from "./upstreams-client.ts";
export type { CommonsExplanation } from "./wire-commons.ts";
export type { JobForge } from "./identity/detect-forge.ts";
export { readRunnerConfig, type RunnerConfig } from "./identity/runner-config.ts";
export { exportPaths, type ExportOptions } from "./export/export-paths.ts";
export { type AtticCache, type AtticDatabase, openAtticDatabase } from "./import/attic-database.ts";
export type { CacheSource, SourcePath } from "./import/cache-source.ts";
export { findNames } from "./import/find-names.ts";
export { importPaths, type ImportOptions } from "./import/import-paths.ts";
export {
  type AtticSource,
  openAtticSource,
  openSource,
  type OpenSourceOptions,
} from "./import/open-source.ts";
export type { TransferEvent, TransferSummary } from "./import/transfer-events.ts";
export { dumpStorePath, type DumpStorePathOptions } from "./dump-store-path.ts";
export type { TlsOptions } from "./http-client.ts";
export { mayPush } from "./may-push.ts";
export {
  type Cache,
  type MissingPaths,
  openCache,
  type OpenCacheOptions,
  type PushOptions,
} from "./open-cache.ts";
export type { PathInfo } from "./path-info.ts";
export type { PushConflict, PushEvent, PushSummary, SkippedPaths } from "./push-events.ts";
export type { RetryEnvironment } from "./push-session.ts";
export type { Collection, Pin, RetentionClient, ViewLimits } from "./retention-client.ts";
export { queryClosure, type QueryClosureOptions } from "./query-closure.ts";
export { readCacheConfig, type ReadCacheConfigOptions } from "./read-cache-config.ts";
export { ResponseError, type ResponseErrorOptions } from "./response-error.ts";
export {
  DEFAULT_RETRY_POLICY,
  describeRetry,
  type RetryNotice,
  type RetryPolicy,
} from "./retry.ts";
export { parseServerUrl } from "./server-url.ts";
export type {
  DocumentKind,
  EntryAudit,
  PrincipalFacts,
  Revocation,
  RevocationReport,
  RevocationRequest,
} from "./wire-provenance.ts";
export type {
  AffectedPath,
  QuarantinedObject,
  QuarantineList,
  BazelScrubReport,
  ScrubReport,
  ScrubRequest,
  ScrubState,
} from "./wire-scrub.ts";
export { formatBazelRc } from "./bazel-config/bazel-rc.ts";
export { formatRcImport, parseRcImport, quoteRcWord } from "./bazel-config/rc-word.ts";
export {
  askBazelRelease,
  type BazelRelease,
  formatBazelRelease,
  isAtLeast,
  parseBazelRelease,
} from "./bazel-config/bazel-version.ts";
export { isGrpc, toHttpUrl } from "./bazel-config/remote-cache-address.ts";
export { besideNix, NIX_COMMAND, whatNixSaid } from "./run-nix.ts";
export { type ProgramOutput, runProgram, type RunProgramOptions } from "./run-program.ts";
export { applyChanges, readState } from "./user-files/apply-changes.ts";
export {
  type FileChange,
  type FileState,
  keepChanged,
  readBlockLines,
  readUserText,
  rewriteBlock,
} from "./user-files/file-change.ts";
export type { BlockPlace } from "./user-files/managed-block.ts";
export { replaceFile } from "./user-files/replace-file.ts";
export { resolveInstallable } from "./resolve-installable.ts";
export type { WarmReport } from "./wire-warm.ts";
