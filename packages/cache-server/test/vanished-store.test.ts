import { mkdir, mkdtemp, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { silentLogger } from "@glorious/core";
import { expect, test } from "vitest";

import { startEmbedded } from "../src/embedded.ts";
import { createTestPath } from "./test-path.ts";
import { startTestServer } from "./test-server.ts";
import { pushAttic } from "./uploads.ts";

test("a store whose volume is away answers 503 and loses nothing, whoever asks", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const token = await server.token({ main: ["pull", "push"] });
  const path = await createTestPath("kept");
  expect((await pushAttic(server, token, "main", path)).status).toBe(200);
  const [root, away] = [join(server.directory, "store"), join(server.directory, "away")];
  await rename(root, away);
  await mkdir(root);

  const nar = `/main/nar/${path.storePathHash}.nar`;
  const answer = await server.send("GET", nar, { token });
  expect([answer.status, answer.json()["message"]]).toEqual([
    503,
    "The folder of the stored objects is gone",
  ]);
  const other = await pushAttic(server, token, "main", await createTestPath("other"));
  expect(other.status).toBe(503);
  const admin = await server.token({}, { isAdmin: true });
  let run: Record<string, unknown> = {};
  for (let bound = ""; run["state"] !== "failed" && run["state"] !== "done";) {
    run = (
      await server.send("POST", `/_flywheel/v1/scrub?wait=5${bound}`, { token: admin })
    ).json();
    bound = `&checkedBefore=${String(run["checkedBefore"])}`;
  }
  expect(run["bad"]).toEqual([]);

  await rm(root, { recursive: true });
  await rename(away, root);
  expect((await server.send("GET", nar, { token })).status).toBe(200);
  expect(await server.index.countQuarantined()).toBe(0);
});

test("a server whose index knows objects does not start without their store, until told that it is lost", async () => {
  const directory = await mkdtemp(join(tmpdir(), "vanished-store-"));
  const start = () =>
    startEmbedded({
      environment: { FLYWHEEL_LISTEN: "127.0.0.1:0", FLYWHEEL_STORE_FSYNC: "none" },
      flags: { dataDirectory: { flag: "--data", value: directory } },
      logger: silentLogger,
    });
  try {
    {
      await using server = await startTestServer({}, { directory });
      await server.createView("main");
      const token = await server.token({ main: ["pull", "push"] });
      const path = await createTestPath("kept");
      expect((await pushAttic(server, token, "main", path)).status).toBe(200);
    }
    const store = join(directory, "store");
    await rename(store, join(directory, "away"));
    await mkdir(store);
    await expect(start()).rejects.toMatchObject({
      code: "CONFIG",
      message: expect.stringContaining(store),
      hint: expect.stringContaining("Mount its volume"),
    });
    await mkdir(join(store, "blobs"));
    await using _lost = await start();
  } finally {
    await rm(directory, { recursive: true });
  }
});
