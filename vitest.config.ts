import { defineConfig } from "vitest/config";

const resolve = { conditions: ["source", "node", "module", "default"] };
const ssr = { resolve: { conditions: ["source", "node", "module", "default"] } };
/** A busy machine does within it what takes milliseconds; the default of a second is an assumption about speed. */
const expect = { poll: { timeout: 20_000 } };

export default defineConfig({
  test: {
    projects: [
      {
        resolve,
        ssr,
        test: {
          name: "unit",
          include: ["packages/*/src/**/*.test.ts"],
          environment: "node",
          expect,
          sequence: { groupOrder: 0 },
        },
      },
      {
        resolve,
        ssr,
        test: {
          name: "integration",
          include: ["packages/*/test/**/*.test.ts", "bench/test/**/*.test.ts"],
          environment: "node",
          expect,
          testTimeout: 60_000,
          hookTimeout: 60_000,
          // The default leaves one processor to vitest itself, which is half of a small machine, and they wait a lot.
          maxWorkers: "100%",
          sequence: { groupOrder: 1 },
        },
      },
      {
        resolve,
        ssr,
        test: {
          name: "e2e",
          include: ["test/**/*.test.ts"],
          environment: "node",
          expect,
          testTimeout: 300_000,
          hookTimeout: 300_000,
          // Groups that may run side by side, as those of two Bazel versions, get no more than CI has processors.
          maxConcurrency: 2,
          // One at a time: they measure memory, and they share the machine's /nix/store.
          fileParallelism: false,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});
