import { type NixCacheInfo, parseNixCacheInfo } from "@glorious/nix-store";

import type { Answer } from "../doctor/answer.ts";

/** What a cache says about itself. @throws {Error} when it refuses, or says what makes no sense. */
export function readCacheInfo({ status, body }: Answer): NixCacheInfo {
  if (status !== 200) throw new Error(`it answered ${status}`);
  return parseNixCacheInfo(body);
}
