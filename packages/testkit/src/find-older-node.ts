import { existsSync } from "node:fs";
import path from "node:path";

import { missingToolReason, toolsDirectory } from "./tools-directory.ts";

/** A line of Node that a runner may have: 22 is the oldest that bundles beside a CI job run on. */
export type OlderNodeLine = 16 | 18 | 20 | 22;

/** The program of a line of Node, or why it is not here. */
export function findOlderNode(
  line: OlderNodeLine,
): { readonly node: string } | { readonly reason: string } {
  const modules = path.join(toolsDirectory(), "older-nodes", "node_modules");
  const node = path.join(modules, `node-${line}-linux-${process.arch}`, "bin", "node");
  if (existsSync(node)) return { node };
  return { reason: missingToolReason("older Nodes") ?? "`pnpm tools` brings it" };
}
