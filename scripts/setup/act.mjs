import { mkdir, mkdtemp, rm } from "node:fs/promises";
import path from "node:path";
import process from "node:process";

import { cacheDirectory } from "./checkout.mjs";
import { capture, findOnPath, isExecutableFile, lastLines } from "./command.mjs";
import { moveIntoPlace, removeAbandoned } from "./toolchain.mjs";

/** Runs workflow files as GitHub's runner does, on this machine itself. */
const MODULE = "github.com/nektos/act@v0.2.89";

/** The folder of act. */
export function actDirectory() {
  return path.join(cacheDirectory(), "tools", "act");
}

/**
 * Builds act, where a Go toolchain is. Nothing of the product needs it: without it one lane of the tests is skipped.
 *
 * @param {(line: string) => void} say
 * @returns {Promise<string | undefined>} why it is not there
 */
export async function bringAct(say) {
  const directory = actDirectory();
  const isComplete = () => isExecutableFile(path.join(directory, "act"));
  if (isComplete()) return undefined;
  const go = findOnPath("go");
  if (go === undefined) return "it is built with Go, and there is no Go on PATH";
  say(`Building act into ${directory}; this takes one to three minutes, once`);
  const parent = path.dirname(directory);
  await mkdir(parent, { recursive: true });
  await removeAbandoned(parent);
  const temporary = await mkdtemp(`${directory}.tmp-`);
  try {
    const { stdout } = await capture(go, ["env", "GOPROXY"]);
    // Modules come from the proxy or not at all: `direct` would ask their own servers.
    const proxy = stdout.trim().replaceAll(/[,|]direct\b/g, "");
    const args = ["install", "-trimpath", "-ldflags", "-s -w", MODULE];
    const env = { ...process.env, GOBIN: temporary, GOPROXY: proxy, GOFLAGS: "", CGO_ENABLED: "0" };
    const result = await capture(go, args, { env, timeout: 600_000 });
    if (result.status !== 0) return `Go could not build it:\n${lastLines(result, 4)}`;
    await moveIntoPlace(temporary, directory, isComplete);
    return undefined;
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}
