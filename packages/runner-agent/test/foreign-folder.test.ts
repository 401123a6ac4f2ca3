import { mkdir, readdir, writeFile } from "node:fs/promises";
import path from "node:path";

import { createTemporaryDirectory } from "@glorious/testkit";
import { expect, test } from "vitest";

import { runDrain } from "../src/finish/run-drain.ts";
import { sessionFiles } from "../src/session/session-files.ts";
import { findEarlierSession } from "../src/setup/earlier-session.ts";

/** Editors have a file of this name, too. */
const SETTINGS = JSON.stringify({ "editor.tabSize": 2 });

test("a folder that is named as a session, and is none, loses nothing", async () => {
  await using directory = await createTemporaryDirectory("flywheel-foreign-");
  const folder = path.join(directory.path, ".vscode");
  await mkdir(folder);
  await writeFile(path.join(folder, "settings.json"), SETTINGS);
  await writeFile(path.join(folder, "launch.json"), "{}");

  const earlier = await findEarlierSession({ FLYWHEEL_SESSION: folder });
  const drained = await runDrain({
    files: sessionFiles(folder),
    timeoutMs: 1000,
    end: true,
    self: [process.execPath, "-e", "0"],
    env: {},
    signal: AbortSignal.timeout(10_000),
    onHeartbeat: () => {},
  });

  expect(earlier).toEqual({ kind: "none", leftPaths: [] });
  expect(drained.report).toMatchObject({ pushed: 0, reason: expect.stringContaining("malformed") });
  expect((await readdir(folder)).sort()).toEqual(["launch.json", "settings.json"]);
});
