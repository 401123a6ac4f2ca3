/**
 * The commands that need nothing installed but Node 20 and npm: `npm start`, `npm test` and what
 * `bin/flywheel` does on first use. Each sets the checkout up and then does its task.
 *
 *   node scripts/run.mjs setup | start [ARGUMENT…] | test [VITEST ARGUMENT…] | check
 */
import process from "node:process";

import { SetUpFailure } from "./setup/failure.mjs";
import { setUpWorkspace } from "./setup/workspace.mjs";
import { runChecks, runFlywheel, runTests } from "./tasks.mjs";

const TASKS = { setup: () => 0, start: runFlywheel, test: runTests, check: runChecks };

// Standard output belongs to the task.
const say = (line) => console.error(`set-up: ${line}`);

async function main([name, ...args]) {
  if (Number.parseInt(process.versions.node, 10) < 20) {
    throw new SetUpFailure(`Node 20 or newer is needed, this is ${process.versions.node}`);
  }
  const task = Object.hasOwn(TASKS, name ?? "") ? TASKS[name] : undefined;
  if (task === undefined) {
    throw new SetUpFailure(
      `usage: node scripts/run.mjs ${Object.keys(TASKS).join(" | ")} [ARGUMENT…]`,
    );
  }
  return task(await setUpWorkspace(say), args, say);
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof SetUpFailure)) throw error;
  console.error(`set-up failed: ${error.message}`);
  process.exitCode = 1;
}
