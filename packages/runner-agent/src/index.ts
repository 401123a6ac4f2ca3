export {
  type BazelFace,
  type BazelFaceOptions,
  startBazelFace,
} from "./bazel-face/start-bazel-face.ts";
export {
  type NixFace,
  type NixFaceOptions,
  type NixUpstream,
  startNixFace,
} from "./nix-face/start-nix-face.ts";
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
