import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";

import { bringAct } from "./setup/act.mjs";
import { rootDirectory } from "./setup/checkout.mjs";
import { runInForeground } from "./setup/command.mjs";
import { bringDebianPackages } from "./setup/debian-packages.mjs";
import { DEBIAN_ROOTS, bringDebianRoot } from "./setup/debian-roots.mjs";
import { bringOlderNode } from "./setup/older-node.mjs";
import { PORTABLE_NIX, bringPortableNix } from "./setup/portable-nix.mjs";
import { bringUnpackedDebian } from "./setup/unpacked-debian.mjs";
import { workspaceEnvironment } from "./setup/workspace.mjs";

/** Starts the embedded cache plane; FLYWHEEL_* variables reach it as they are. */
export function runFlywheel(_toolchain, args) {
  return runInForeground(path.join(rootDirectory, "bin", "flywheel"), ["up", ...args]);
}

/** Types, lint, format, boundaries, knip. */
export function runChecks({ pnpm }) {
  // oxlint prints colours wherever CI is set, whatever NO_COLOR says.
  const { CI: _, ...environment } = plainEnvironment();
  return runInForeground(pnpm, ["run", "check"], { cwd: rootDirectory, env: environment });
}

/**
 * Brings what the test lanes need, runs every test and closes with one line of counts.
 *
 * @returns {Promise<number>} the exit status
 */
export async function runTests({ node }, args, say) {
  const missing = await bringTools(say);
  const directory = await mkdtemp(path.join(tmpdir(), "flywheel-test-run-"));
  const countsFile = path.join(directory, "counts.json");
  try {
    const status = await runInForeground(
      node,
      [
        path.join(rootDirectory, "node_modules", "vitest", "vitest.mjs"),
        "run",
        "--reporter=default",
        "--reporter=./scripts/counts-reporter.mjs",
        ...args,
      ],
      {
        cwd: rootDirectory,
        env: {
          ...plainEnvironment(),
          GLORIOUS_COUNTS_FILE: countsFile,
          GLORIOUS_MISSING_TOOLS: JSON.stringify(missing),
        },
      },
    );
    return reportCounts(await readCounts(countsFile), missing, status);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** @returns {Promise<Record<string, string>>} why a tool is not there, by the tool's name */
async function bringTools(say) {
  const missing = {};
  const debian = await bringDebianPackages(say);
  if (debian !== undefined) missing["Debian packages"] = debian;
  const reasons = await Promise.all(PORTABLE_NIX.map((nix) => bringPortableNix(nix, say)));
  for (const [index, reason] of reasons.entries()) {
    if (reason !== undefined) missing[`Nix ${PORTABLE_NIX[index].version}`] = reason;
  }
  const unpacked = await bringUnpackedDebian(say);
  if (unpacked !== undefined) missing["nginx and wrk"] = unpacked;
  const rootReasons = await Promise.all(DEBIAN_ROOTS.map((root) => bringDebianRoot(root, say)));
  for (const [index, reason] of rootReasons.entries()) {
    if (reason !== undefined) missing[`Debian ${DEBIAN_ROOTS[index].suite}`] = reason;
  }
  const act = await bringAct(say);
  if (act !== undefined) missing["act"] = act;
  const node = await bringOlderNode(say);
  if (node !== undefined) missing["older Nodes"] = node;
  for (const [name, reason] of Object.entries(missing)) say(`${name}: ${reason}`);
  return missing;
}

async function readCounts(file) {
  try {
    return JSON.parse(await readFile(file, "utf8"));
  } catch {
    // The runner ended before its reports: that is a failure, whatever its status says.
    return { passed: 0, failed: 1, skipped: [] };
  }
}

function reportCounts({ passed, failed, skipped }, missing, status) {
  for (const [reason, count] of countByReason(skipped)) console.log(`skipped ${count}: ${reason}`);
  for (const [name, reason] of Object.entries(missing)) console.log(`missing ${name}: ${reason}`);
  const isGreen = status === 0 && failed === 0 && passed > 0;
  // A run that ends badly never closes with "0 failed".
  const shownFailed = isGreen ? 0 : Math.max(failed, 1);
  console.log(`${passed} passed, ${shownFailed} failed, ${skipped.length} skipped`);
  return isGreen ? 0 : Math.max(status, 1);
}

function countByReason(skipped) {
  const counts = new Map();
  for (const { title, reason } of skipped) {
    const text = reason ?? `no reason given (${title})`;
    counts.set(text, (counts.get(text) ?? 0) + 1);
  }
  return counts;
}

function plainEnvironment() {
  const environment = workspaceEnvironment();
  if (process.env.CI === undefined && process.stdout.isTTY) return environment;
  const { FORCE_COLOR: _, ...rest } = environment;
  return { ...rest, NO_COLOR: "1" };
}
