import { join } from "node:path";

import { expect, test } from "vitest";

import { openConnection } from "../src/index/sqlite-connection.ts";
import { SqliteRevocation } from "../src/index/sqlite-revocation.ts";
import { randomBlob } from "./bazel/blobs.ts";
import { makeDirectory } from "./index/temporary-directory.ts";
import { jobToken } from "./job-tokens.ts";
import { createTestPath } from "./test-path.ts";
import { startTestServer } from "./test-server.ts";
import { pushAttic } from "./uploads.ts";

const REVOCATIONS = "/_flywheel/v1/revocations";

test("a revocation that a kill cuts short is finished by the next start, before anybody is served", async () => {
  await using directory = await makeDirectory();
  const tokenKey = { algorithm: "HS256", secret: Buffer.alloc(64, 7) } as const;
  const paths = await Promise.all(["a", "b", "c", "d"].map((name) => createTestPath(name)));
  const blob = randomBlob(100);
  const blobPath = `/main/cas/${blob.hash}`;
  {
    await using server = await startTestServer({}, { directory: directory.path, tokenKey });
    await server.createView("main");
    const poisoned = await jobToken(server, { run: "666" });
    for (const path of paths) await pushAttic(server, poisoned, "main", path);
    const put = await server.send("PUT", blobPath, { token: poisoned, body: blob.bytes });
    expect(put.status).toBe(200);
  }
  // What a server that dies after its second slice leaves: whom it names is refused, half is hidden.
  const database = openConnection(join(directory.path, "index.sqlite"), "off");
  const revocation = new SqliteRevocation(database);
  const by = { atMs: Date.now(), createdBy: undefined };
  const id = revocation.addRevocation({ run: "666" }, by);
  const { next } = revocation.hideSlice(id, undefined, 1);
  expect(revocation.hideSlice(id, next, 1)).toMatchObject({ hidden: 1 });
  database.close();

  await using server = await startTestServer({}, { directory: directory.path, tokenKey });
  const reader = await jobToken(server, { run: "7" });
  const narInfos = paths.map(({ storePathHash }) => `/main/${storePathHash}.narinfo`);
  for (const read of [...narInfos, blobPath]) {
    expect((await server.send("GET", read, { token: reader })).status).toBe(404);
  }
  const poisoned = await jobToken(server, { run: "666" });
  expect((await server.send("GET", "/main/nix-cache-info", { token: poisoned })).status).toBe(401);
  const admin = await server.token({}, { isAdmin: true });
  const listed = await server.send("GET", REVOCATIONS, { token: admin });
  expect(listed.json()["revocations"]).toMatchObject([
    { id, entries: 5, finishedAt: expect.any(String) },
  ]);
});
