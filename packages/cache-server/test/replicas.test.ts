import { expect, test } from "vitest";

import { makeDirectory } from "./index/temporary-directory.ts";
import { jobToken } from "./job-tokens.ts";
import { createTestPath } from "./test-path.ts";
import { startTestServer } from "./test-server.ts";
import { postJson, pushAttic } from "./uploads.ts";

const TOKEN_KEY = { algorithm: "HS256", secret: Buffer.alloc(64, 7) } as const;

test("what one server revokes, the other over the same index refuses at its next request, warm as it is", async () => {
  await using directory = await makeDirectory();
  const parts = { directory: directory.path, tokenKey: TOKEN_KEY };
  await using one = await startTestServer({}, parts);
  await using other = await startTestServer({}, parts);
  await one.createView("main");
  const admin = await one.token({}, { isAdmin: true });
  const path = await createTestPath("tool");
  const narInfo = `/main/${path.storePathHash}.narinfo`;
  await pushAttic(one, await jobToken(one, { run: "666" }), "main", path);
  const leaked = await jobToken(one, { run: "7" }, { jti: "leaked" });
  const reader = await jobToken(one, { run: "8" }, { jti: "fine" });
  for (const token of [leaked, reader, leaked, reader]) {
    expect((await other.send("GET", narInfo, { token })).status).toBe(200);
  }

  await one.index.revokeToken("leaked", undefined);
  expect((await other.send("GET", narInfo, { token: leaked })).status).toBe(401);
  expect((await other.send("GET", narInfo, { token: reader })).status).toBe(200);

  await postJson(one, admin, "/_flywheel/v1/revocations", { run: "666" });
  expect((await other.send("GET", narInfo, { token: reader })).status).toBe(404);
});
