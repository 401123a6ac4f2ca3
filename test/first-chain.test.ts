import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import { createTemporaryDirectory, describeEachNix, runCommand } from "@glorious/testkit";
import { expect, test } from "vitest";

const LAUNCHER = fileURLToPath(new URL("../bin/flywheel", import.meta.url));

interface NewUser extends AsyncDisposable {
  /** What every command of theirs sees: no configuration of Nix, nothing of ours. */
  readonly env: Readonly<Record<string, string>>;
  readonly temporaryDirectory: string;
}

/** Somebody with an empty home, whose folders have spaces in their names. */
async function createNewUser(nixDirectory: string): Promise<NewUser> {
  const directory = await createTemporaryDirectory("flywheel-new-user-");
  const home = path.join(directory.path, "a new user");
  const temporaryDirectory = path.join(directory.path, "tmp");
  await mkdir(home);
  await mkdir(temporaryDirectory);
  return {
    env: {
      PATH: [nixDirectory, process.env["PATH"]].join(path.delimiter),
      HOME: home,
      USER: process.env["USER"] ?? "root",
      LANG: "C.UTF-8",
      TMPDIR: temporaryDirectory,
      FLYWHEEL_LISTEN: "127.0.0.1:0",
    },
    temporaryDirectory,
    [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose](),
  };
}

interface Started extends AsyncDisposable {
  /** All that it printed, up to the last line to use it. */
  readonly lines: readonly string[];
}

/** Runs `bin/flywheel up`, and nothing more, until it has explained itself. */
async function runUp({ env }: NewUser): Promise<Started> {
  const child = spawn(LAUNCHER, ["up"], {
    env,
    cwd: env["HOME"],
    stdio: ["ignore", "pipe", "pipe"],
  });
  const exited = once(child, "exit");
  const log: string[] = [];
  child.stderr.setEncoding("utf8").on("data", (text: string) => log.push(text));
  const lines: string[] = [];
  for await (const line of createInterface(child.stdout)) {
    lines.push(line);
    if (line.endsWith(" use")) break;
  }
  if (!lines.at(-1)?.endsWith(" use")) throw new Error(`up said too little: ${log.join("")}`);
  return {
    lines,
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM");
      await exited;
    },
  };
}

/** What stands between the two empty lines after the invitation. */
function findTryLines(lines: readonly string[]): string {
  const start = lines.findIndex((line) => line.startsWith("Try it:"));
  const first = lines.indexOf("", start) + 1;
  const end = lines.indexOf("", first);
  return `${lines.slice(first, end).join("\n")}\n`;
}

describeEachNix("the first chain", (nix) => {
  test.each(["bash", "sh"])(
    "what up prints, pasted into %s, pushes a closure and substitutes it into an empty store",
    async (shell) => {
      await using user = await createNewUser(nix.binDirectory);
      await using started = await runUp(user);
      const url = /^ {2}substituter {2}(http:\S+)$/m.exec(started.lines.join("\n"))?.[1] ?? "";
      expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/main$/);
      const pasted = findTryLines(started.lines);
      expect(pasted).toMatch(/^\(\n[\s\S]*\n\)\n$/);

      const result = await runCommand(shell, [], { env: user.env, input: pasted });

      const said = `${result.stdout}\n${result.stderr}`;
      expect([result.status, said]).toEqual([0, expect.any(String)]);
      expect(result.stdout).toContain("Hello from your own cache");
      const copied = [...result.stderr.matchAll(/copying path '(\S+)' from '(\S+)'/g)];
      expect(copied.map(([, , from]) => from)).toEqual([url, url]);
      // The machine's store may have the path from before; the second one can only have it from us.
      const substitution = result.stderr.slice(result.stderr.indexOf("copying path"));
      expect(substitution).not.toContain("building ");
      const [store = ""] = await readdir(user.temporaryDirectory);
      for (const [, storePath = ""] of copied) {
        const there = await readFile(path.join(user.temporaryDirectory, store, storePath), "utf8");
        expect(there).toBe(await readFile(storePath, "utf8"));
      }
    },
  );

  test("the lines can be pasted again, also after the server was stopped and started", async () => {
    await using user = await createNewUser(nix.binDirectory);
    for (const round of ["first", "second"]) {
      await using started = await runUp(user);
      const result = await runCommand("bash", [], {
        env: user.env,
        input: findTryLines(started.lines),
      });
      expect([round, result.status, result.stderr]).toEqual([
        round,
        0,
        expect.stringMatching(/copying path '\S+-hello-flywheel' from '/),
      ]);
    }
  });

  test("without the signature's key the same substitution is refused", async () => {
    await using user = await createNewUser(nix.binDirectory);
    await using started = await runUp(user);
    const pasted = findTryLines(started.lines).replace(
      /trusted-public-keys '?[^ ']+'?/,
      "trusted-public-keys ''",
    );

    const result = await runCommand("bash", [], { env: user.env, input: pasted });

    expect([result.status === 0, result.stderr]).toEqual([false, expect.stringMatching(/sign/)]);
    expect(result.stdout).not.toContain("Hello");
  });
});
