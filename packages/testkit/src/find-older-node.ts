import { existsSync } from "node:fs";
import path from "node:path";

import { missingToolReason, toolsDirectory } from "./tools-directory.ts";

/** The oldest Node that bundles beside a CI job run on, or why it is not here. */
export function findOlderNode(): { readonly node: string } | { readonly reason: string } {
  const modules = path.join(toolsDirectory(), "node-22", "node_modules");
  const node = path.join(modules, `node-linux-${process.arch}`, "bin", "node");
  if (existsSync(node)) return { node };
  return { reason: missingToolReason("Node 22") ?? "`pnpm tools` brings it" };
}
