import { fileURLToPath } from "node:url";

import { createTemporaryDirectory, runCommand } from "@glorious/testkit";
import { expect, test } from "vitest";

const MAIN = fileURLToPath(new URL("main.ts", import.meta.url));
const IS_LONG = process.env["GLORIOUS_LONG"] === "1";

/** As many inputs as a few seconds have room for. A long run takes two minutes for each. */
const TARGETS: Readonly<Record<string, number>> = {
  nar: 1000,
  narinfo: 3000,
  zstd: 600,
  token: 3000,
  formats: 800,
  range: 2000,
  preamble: 800,
  http: 1500,
  "grpc-server": 2000,
  "grpc-client": 2000,
  "nar-nix": 25,
  "narinfo-nix": 35,
};

function run(args: readonly string[]): ReturnType<typeof runCommand> {
  return runCommand(process.execPath, ["--conditions=source", MAIN, ...args], {
    timeoutMs: 280_000,
  });
}

test.for(Object.entries(TARGETS))("%s", async ([target, inputs], { annotate, skip }) => {
  await using artifacts = await createTemporaryDirectory("flywheel-fuzz-");
  const size = IS_LONG ? ["--seconds", "120"] : ["--inputs", String(inputs)];
  const { status, stdout, stderr } = await run([target, ...size, "--artifacts", artifacts.path]);

  expect(status, `${stdout}${stderr}`).toBe(0);
  const [, missing] = /: not run, (.*)/.exec(stdout) ?? [];
  if (missing !== undefined) skip(missing);
  await annotate(stdout.trim());
});

test("every target is run here", async () => {
  const { stdout } = await run(["--list"]);
  const names = stdout
    .trim()
    .split("\n")
    .map((line) => line.split(" ", 1)[0]);
  expect(new Set(Object.keys(TARGETS))).toEqual(new Set(names));
});
