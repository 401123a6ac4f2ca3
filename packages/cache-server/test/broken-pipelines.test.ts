import { expect, test } from "vitest";

import { openRawClient } from "./raw-client.ts";
import { startTestServer } from "./test-server.ts";

test("a second request that is malformed, behind one not yet answered, breaks only its connection", async () => {
  const uncaught: unknown[] = [];
  const note = (error: unknown): void => void uncaught.push(error);
  process.on("uncaughtException", note);
  try {
    await using server = await startTestServer();
    for (let connection = 0; connection < 5; connection += 1) {
      await using client = await openRawClient(server);
      await client.write("GET / HTTP/1.1\r\n\r\nGET /\npt: z\r\n\r\ny");
      await client.closed();
    }
    expect((await server.send("GET", "/healthz")).status).toBe(200);
  } finally {
    process.off("uncaughtException", note);
  }
  expect(uncaught).toEqual([]);
});
