import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import path from "node:path";

import {
  type BazelWorkspace,
  createBazelWorkspace,
  describeEachBazel,
  startFlywheel,
  type FaultProxy,
  startFaultProxy,
} from "@glorious/testkit";
import { expect, test } from "vitest";

import { flywheel, useBazel } from "./use-bazel.ts";

/** Two levels, so that trouble in the middle of a build has something left to hit. */
const ACTIONS = 12;
const BUILD = Array.from(
  { length: ACTIONS },
  (_, index) => `
genrule(name = "one${index}", outs = ["one${index}.txt"], cmd = "echo ${index} > $@")
genrule(name = "two${index}", srcs = ["one${index}.txt"], outs = ["two${index}.txt"], cmd = "cat $< > $@")
`,
).join("");

/** Builds everything; gives what Bazel said. */
async function buildsGreen(workspace: BazelWorkspace, args: readonly string[]): Promise<string> {
  const result = await workspace.run(["build", ...args, "//..."], { timeoutMs: 300_000 });
  expect(result.status, result.stderr).toBe(0);
  expect((await workspace.readOutput("two11.txt")).toString()).toBe("11\n");
  return result.stderr;
}

/** Accepts connections and never says a word. */
async function startSilentServer(): Promise<{ port: number } & AsyncDisposable> {
  const open = new Set<Socket>();
  const server = createServer((socket) => {
    open.add(socket);
    socket.on("error", () => {});
    socket.resume();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("The server has no port");
  return {
    port: address.port,
    async [Symbol.asyncDispose]() {
      for (const socket of open) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}

function proxyTo(url: string, plan: Parameters<typeof startFaultProxy>[1]): Promise<FaultProxy> {
  return startFaultProxy(() => Number(new URL(url).port), plan);
}

describeEachBazel("a build without its cache", (bazel) => {
  const transports = [
    ["gRPC", []],
    ["HTTP", ["--http"]],
  ] as const;

  test.for(transports)("is green when nobody listens, over %s", async ([, args]) => {
    await using server = await startFlywheel();
    await using workspace = await createBazelWorkspace(bazel);
    await workspace.write({ BUILD });
    await useBazel(workspace, server, { args });
    await server.stop();
    expect(await buildsGreen(workspace, [])).not.toMatch(/remote cache hit/);
  });

  // Over HTTP every request of every action would wait: docs/tutorials/bazel-cache.md says so.
  test("is green when it never answers, over gRPC", async () => {
    await using server = await startFlywheel();
    await using silent = await startSilentServer();
    await using workspace = await createBazelWorkspace(bazel);
    await workspace.write({ BUILD });
    await useBazel(workspace, server);
    const text = await buildsGreen(workspace, [`--remote_cache=grpc://127.0.0.1:${silent.port}`]);
    expect(text).toMatch(/DEADLINE_EXCEEDED/);
  });

  test.for(transports)("is green when it dies half-way, over %s", async ([transport, args]) => {
    await using server = await startFlywheel();
    await using proxy = await proxyTo(server.url, () => ({
      after: { bytes: 4000, towards: "server", kind: "reset" },
    }));
    await using workspace = await createBazelWorkspace(bazel);
    await workspace.write({ BUILD });
    await useBazel(workspace, server, { args });
    const address = `127.0.0.1:${proxy.port}`;
    const remote = transport === "gRPC" ? `grpc://${address}` : `http://${address}/main`;
    // netrc knows no ports; the credential helper knows the server's own only.
    const header = `--remote_header=authorization=Bearer ${await server.readToken()}`;
    const hasHelper = !bazel.version.startsWith("4.");
    await buildsGreen(workspace, [`--remote_cache=${remote}`, ...(hasHelper ? [header] : [])]);
    expect(proxy.faults.get("reset")).toBeGreaterThan(0);
  });

  test.for(transports)("is green when its token was revoked, over %s", async ([, args]) => {
    await using server = await startFlywheel();
    const token = await flywheel(server, "token", "create", "--pull", "main", "--push", "main");
    const tokenFile = path.join(server.dataDirectory, "bazel.token");
    await writeFile(tokenFile, token, { mode: 0o600 });
    await using workspace = await createBazelWorkspace(bazel);
    await workspace.write({ BUILD });
    await useBazel(workspace, server, { args, tokenFile });
    await flywheel(server, "token", "revoke", "--token-to-revoke", tokenFile);
    expect(await buildsGreen(workspace, [])).not.toMatch(/remote cache hit/);
  });
});
