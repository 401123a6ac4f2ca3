export {
  type AtticCacheData,
  type AtticCompression,
  type AtticPathData,
  type AtticServerData,
  type AtticServerDataOptions,
  createAtticServerData,
} from "./attic-server-data.ts";
export { describeEachNix } from "./describe-each-nix.ts";
export {
  type ConnectionFault,
  type FaultProxy,
  type SharedLink,
  startFaultProxy,
} from "./fault-proxy.ts";
export { findNixVersions, type NixVersion } from "./find-nix-versions.ts";
export {
  createNixSandbox,
  type NixSandbox,
  type NixSandboxOptions,
  type NixSettings,
  type NetrcEntry,
} from "./nix-sandbox.ts";
export { type CommandOptions, type CommandResult, runCommand } from "./run-command.ts";
export {
  startFlywheel,
  type RunningFlywheel,
  type StartFlywheelOptions,
} from "./start-flywheel.ts";
export { findOlderNode, type OlderNodeLine } from "./find-older-node.ts";
export { describeWithAct } from "./describe-with-act.ts";
export { createTemporaryDirectory, type TemporaryDirectory } from "./temporary-directory.ts";
export {
  createBazelWorkspace,
  type BazelCommandOptions,
  type BazelResult,
  type BazelWorkspace,
} from "./bazel-workspace.ts";
export {
  enterDebianRoot,
  findDebianRoot,
  runInDebianRoot,
  type DebianRoot,
  type DebianSuite,
} from "./debian-root.ts";
export { describeEachBazel, findBazelVersions, type BazelVersion } from "./find-bazel-versions.ts";
export { createIssuerKey, type IssuerKey, type MintAlgorithm } from "./issuer/mint-token.ts";
export {
  type IssuerConduct,
  type MintOptions,
  startIssuer,
  type TestIssuer,
} from "./issuer/start-issuer.ts";
export {
  type ActionsJob,
  type Claims,
  forgejoClaims,
  githubClaims,
  gitlabClaims,
  type GitlabJob,
  kubernetesClaims,
  stampClaims,
  type TokenStamp,
} from "./claim-sets.ts";
export {
  CLUSTER_ISSUER,
  type IdentityWorld,
  type IdentityWorldOptions,
  startIdentityWorld,
  startTestJob,
  TEST_FORGES,
  type TestForge,
  type TestJob,
} from "./issuer/start-identity-world.ts";
