export { createAgentLogger } from "./agent/agent-logger.ts";
export { type AgentOptions, runAgent } from "./agent/run-agent.ts";
export { isToBegin } from "./agent/start-agent.ts";
export { startBazelFace, startNixFace } from "./agent/load-faces.ts";
export type { BazelFace, BazelFaceOptions } from "./bazel-face/start-bazel-face.ts";
export type { NixUpstream } from "./nix-face/nix-cache.ts";
export type { NixFace, NixFaceOptions } from "./nix-face/start-nix-face.ts";
export { createFixedCredentials, type Credentials } from "./credentials.ts";
export {
  type AgentSummary,
  type BazelFigures,
  type BreakerFigures,
  createStatistics,
  type NixFigures,
  type NixMissReason,
  type SessionStatus,
  type Statistics,
  type StatisticsOptions,
  type UploadFigures,
} from "./statistics.ts";
export { type LocalStore, openLocalStore } from "./uploads/local-store.ts";
export { type BatchOutcome, pushBatch } from "./uploads/push-batch.ts";
export { isWorthPushing, lockedName, type NameRules } from "./uploads/store-names.ts";
export { createUploadQueue } from "./uploads/upload-queue.ts";
export { describeSession, type DescribedSession } from "./finish/describe-session.ts";
export { type DrainCommandOptions, type DrainResult, runDrain } from "./finish/run-drain.ts";
export { findSession, requireSession } from "./session/find-session.ts";
export { completeSetup } from "./setup/complete-setup.ts";
export { runSetup } from "./setup/run-setup.ts";
export {
  type BazelRequest,
  parseSetupRequest,
  type PushMode,
  type SetupContext,
  type SetupKind,
  type SetupRequest,
  type SetupResult,
  type SetupTimings,
  type SetupWarning,
} from "./setup/setup-request.ts";
export type { DrainReport } from "./uploads/uploader.ts";
export { runUploadWorker } from "./uploads/upload-worker.ts";
