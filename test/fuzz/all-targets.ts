import type { FuzzTarget } from "./fuzz-target.ts";
import { formatsTarget } from "./targets/formats.ts";
import { narTarget } from "./targets/nar.ts";
import { narInfoTarget } from "./targets/narinfo.ts";
import { tokenTarget } from "./targets/token.ts";
import { zstdTarget } from "./targets/zstd.ts";

/** What `pnpm fuzz` knows. */
export const allTargets: readonly FuzzTarget[] = [
  narTarget,
  narInfoTarget,
  zstdTarget,
  tokenTarget,
  formatsTarget,
];
