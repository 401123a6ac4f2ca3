import { expect, test } from "vitest";

import { runCommand } from "../src/index.ts";

test("a command's exit status and both outputs are returned", async () => {
  const result = await runCommand("/bin/sh", ["-c", "cat; echo no >&2; exit 4"], { input: "yes" });

  expect(result).toEqual({ status: 4, stdout: "yes", stderr: "no\n" });
});

test("a command ended by a signal has the shell's status", async () => {
  const result = await runCommand("/bin/sh", ["-c", "kill -TERM $$"]);

  expect(result.status).toBe(128 + 15);
});

test("a command that takes too long is killed and reported with what it said", async () => {
  const command = runCommand("/bin/sh", ["-c", "echo waiting >&2; exec sleep 60"], {
    timeoutMs: 300,
  });

  await expect(command).rejects.toThrow(/did not end in 300 ms: waiting/);
});
