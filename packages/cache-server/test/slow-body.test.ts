import { connect } from "node:net";

import { expect, test } from "vitest";

import { atticNarInfo, createTestPath } from "./test-path.ts";
import { startTestServer, type TestServer } from "./test-server.ts";

/** Sends the head and a part of the body, and nothing more; gives what comes back. */
function sendPart(server: TestServer, head: readonly string[], part: Uint8Array): Promise<string> {
  const { hostname, port } = new URL(server.url);
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), hostname, () => {
      socket.write(`${head.join("\r\n")}\r\n\r\n`);
      socket.write(part);
    });
    let answer = "";
    socket.setEncoding("utf8");
    socket.on("data", (piece: string) => {
      answer += piece;
      if (answer.includes('"requestId"')) socket.destroy();
    });
    socket.on("error", reject);
    socket.on("close", () => resolve(answer));
  });
}

test("a client that falls silent in the middle of its body is told so, and leaves nothing", async () => {
  await using server = await startTestServer({ idleTimeoutMs: "200ms" });
  const view = await server.createView("main");
  const token = await server.token({ main: ["push"] });
  const path = await createTestPath("slow", "x".repeat(100_000));

  const answer = await sendPart(
    server,
    [
      "PUT /_api/v1/upload-path HTTP/1.1",
      "host: localhost",
      `authorization: bearer ${token}`,
      `x-attic-nar-info: ${atticNarInfo("main", path)}`,
      `content-length: ${path.nar.length}`,
    ],
    path.nar.subarray(0, 50_000),
  );

  expect(answer).toMatch(/^HTTP\/1\.1 408 /);
  expect(answer).toContain("No byte came for 200 ms, after 50000");
  expect(await server.index.findMissingNars(view.id, [path.narHash])).toEqual([path.narHash]);
  expect(await Array.fromAsync(server.store.list("nar/"))).toEqual([]);
});
