import type { FuzzTarget } from "./fuzz-target.ts";
import { formatsTarget } from "./targets/formats.ts";
import { grpcClientTarget, grpcServerTarget } from "./targets/grpc.ts";
import { httpTarget } from "./targets/http.ts";
import { narNixTarget } from "./targets/nar-nix.ts";
import { narTarget } from "./targets/nar.ts";
import { narInfoNixTarget } from "./targets/narinfo-nix.ts";
import { narInfoTarget } from "./targets/narinfo.ts";
import { preambleTarget } from "./targets/preamble.ts";
import { rangeTarget } from "./targets/range.ts";
import { tokenTarget } from "./targets/token.ts";
import { zstdTarget } from "./targets/zstd.ts";

/** What `pnpm fuzz` knows. */
export const allTargets: readonly FuzzTarget[] = [
  narTarget,
  narInfoTarget,
  zstdTarget,
  tokenTarget,
  formatsTarget,
  rangeTarget,
  preambleTarget,
  httpTarget,
  grpcServerTarget,
  grpcClientTarget,
  narNixTarget,
  narInfoNixTarget,
];
