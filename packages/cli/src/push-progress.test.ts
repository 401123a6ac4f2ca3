import { PassThrough } from "node:stream";

import fc from "fast-check";
import { expect, test } from "vitest";

import type { CliContext } from "./cli-context.ts";
import { createBarProgress, describeEvent, describeSummary, formatBar } from "./push-progress.ts";

test("the bar never leaves its line, whatever the numbers", () => {
  const count = fc.nat(2 ** 31 - 1);
  fc.assert(
    fc.property(
      fc.record({
        bytes: count,
        totalBytes: count,
        doneUploads: count,
        totalUploads: count,
        elapsedMs: count,
        columns: fc.integer({ min: 1, max: 300 }),
      }),
      (state) => {
        expect(formatBar(state).length).toBeLessThan(state.columns);
      },
    ),
  );
});

test("the bar says how far, how much and how fast", () => {
  const state = { bytes: 2 ** 20, totalBytes: 2 ** 21, doneUploads: 1, totalUploads: 2 };
  expect(formatBar({ ...state, elapsedMs: 2000, columns: 100 })).toBe(
    `[${"#".repeat(15)}${"-".repeat(15)}] 50 %  1/2 paths  1 MiB of 2 MiB  512 KiB/s`,
  );
});

test("a log line tells an upload's result and size", () => {
  expect(
    describeEvent({
      type: "upload-done",
      storePath: "/nix/store/a",
      narSize: 2048,
      sentBytes: 1024,
      result: "uploaded",
      durationMs: 1500,
    }),
  ).toBe("uploaded /nix/store/a (2 KiB, 1 KiB sent, 1.5 s)");
});

test("a summary tells a dry run from a push", () => {
  const summary = {
    paths: 3,
    uploaded: 1,
    deduplicated: 0,
    alreadyPresent: 1,
    missing: 1,
    skipped: [{ reason: "", keyName: "k", storePaths: ["/nix/store/b"] }],
    conflicts: [],
    narBytes: 2048,
    sentBytes: 1024,
    durationMs: 2000,
    dryRun: false,
  };
  expect(describeSummary(summary)).toBe(
    "Pushed 1 path (2 KiB, 1 KiB sent) in 2 s; 1 there already, 1 skipped.",
  );
  expect(describeSummary({ ...summary, dryRun: true })).toMatch(/^Would push 1 path/);
});

test("the bar is drawn, also on a terminal without a size, and taken away at the end", () => {
  let nowMs = 0;
  const written: string[] = [];
  const stderr = Object.assign(new PassThrough(), { isTTY: true, columns: 0 });
  stderr.write = (text: string) => written.push(text) > 0;
  const context: CliContext = {
    stdin: new PassThrough(),
    stdout: new PassThrough(),
    stderr,
    self: ["flywheel"],
    env: {},
    workingDirectory: "/",
    signal: new AbortController().signal,
    userId: 0,
    nowMs: () => (nowMs += 500),
  };
  const progress = createBarProgress(context);
  progress.onEvent({
    type: "planned",
    paths: 1,
    skipped: 0,
    alreadyPresent: 0,
    missing: 1,
    uploads: 1,
    uploadBytes: 100,
  });
  progress.onEvent({
    type: "upload-progress",
    storePath: "/nix/store/a",
    narSize: 100,
    narBytes: 50,
    sentBytes: 9,
  });
  progress.end();
  expect(written[1]).toContain("50 %  0/1 paths");
  expect(written.at(-1)).toBe("\r\u001B[K");
});
