import { parseNarInfo } from "@glorious/nix-store";
import { expect, test } from "vitest";

import { jobToken, pullRequestToken } from "./job-tokens.ts";
import { createTestPath } from "./test-path.ts";
import { startTestServer } from "./test-server.ts";
import { postJson, pushAttic } from "./uploads.ts";

const REVOCATIONS = "/_flywheel/v1/revocations";

test("a poisoned run is undone: gone at once on every protocol, its readers named, and built anew", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const admin = await server.token({}, { isAdmin: true });
  const poisoned = await jobToken(server, { run: "666" });
  const reader = await jobToken(server, { run: "7" });
  const path = await createTestPath("tool");
  const fine = await createTestPath("fine");
  await pushAttic(server, poisoned, "main", path);
  await pushAttic(server, await jobToken(server, { run: "5" }), "main", fine);
  const narInfo = `/main/${path.storePathHash}.narinfo`;
  const { url } = parseNarInfo((await server.send("GET", narInfo, { token: reader })).text);
  await server.send("GET", narInfo, { token: reader });

  const preview = await postJson(server, admin, REVOCATIONS, { run: "666", dryRun: true });
  expect(preview.json()).toMatchObject({
    dryRun: true,
    entries: 1,
    samples: [{ view: "main", kind: "path", name: path.storePathHash }],
    writers: [{ run: "666", repository: "acme/app" }],
    consumers: [{ run: "7", entries: 1 }],
  });
  expect((await server.send("GET", narInfo, { token: reader })).status).toBe(200);

  const revoked = await postJson(server, admin, REVOCATIONS, { run: "666" });
  expect(revoked.json()).toMatchObject({ dryRun: false, entries: 1, consumers: [{ run: "7" }] });
  for (const read of [
    narInfo,
    `/main/${url}`,
    `/main/nar/${path.storePathHash}.nar`,
    `/main/${path.storePathHash}.ls`,
  ]) {
    expect([read, (await server.send("GET", read, { token: reader })).status]).toEqual([read, 404]);
  }
  const fineInfo = `/main/${fine.storePathHash}.narinfo`;
  expect((await server.send("GET", fineInfo, { token: reader })).status).toBe(200);
  const missing = await postJson(server, reader, "/_api/v1/get-missing-paths", {
    cache: "main",
    store_path_hashes: [path.storePathHash, fine.storePathHash],
  });
  expect(missing.json()).toEqual({ missing_paths: [path.storePathHash] });
  expect((await pushAttic(server, poisoned, "main", path)).status).toBe(401);
  expect((await server.send("GET", fineInfo, { token: poisoned })).status).toBe(401);

  const audit = `/_flywheel/v1/audit/paths/${path.storePathHash}`;
  expect((await server.send("GET", audit, { token: admin })).json()).toMatchObject({
    views: [{ view: "main", state: "hidden", writers: [{ run: "666" }], readers: [{ run: "7" }] }],
  });
  server.advance(1000);
  expect((await pushAttic(server, reader, "main", path)).json()["kind"]).toBe("Uploaded");
  expect((await server.send("GET", narInfo, { token: reader })).status).toBe(200);
  expect((await server.send("GET", audit, { token: admin })).json()).toMatchObject({
    views: [{ state: "present", writers: [{ run: "7" }, { run: "666" }] }],
  });
});

test("a revocation is taken back by its number, for its entries or for its tokens alone", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const admin = await server.token({}, { isAdmin: true });
  const job = await pullRequestToken(server, 7, { run: "666" });
  const path = await createTestPath("tool");
  await pushAttic(server, job, "main_pr-7", path);
  const narInfo = `/main_pr-7/${path.storePathHash}.narinfo`;
  const first = await postJson(server, admin, REVOCATIONS, { run: "666" });
  expect((await server.send("GET", narInfo, { token: job })).status).toBe(401);

  const one = `${REVOCATIONS}/${String(first.json()["id"])}`;
  const kept = await server.send("DELETE", `${one}?keepHidden=1`, { token: admin });
  expect(kept.json()).toMatchObject({ restored: 0 });
  expect((await server.send("GET", narInfo, { token: job })).status).toBe(404);
  expect((await server.send("DELETE", one, { token: admin })).status).toBe(404);

  await pushAttic(server, job, "main_pr-7", path);
  const second = await postJson(server, admin, REVOCATIONS, { run: "666" });
  expect(second.json()).toMatchObject({ entries: 1 });
  const two = `${REVOCATIONS}/${String(second.json()["id"])}`;
  expect((await server.send("DELETE", two, { token: admin })).json()).toMatchObject({
    restored: 1,
  });
  expect((await server.send("GET", narInfo, { token: job })).status).toBe(200);
  const list = (await server.send("GET", REVOCATIONS, { token: admin })).json()["revocations"];
  expect(list).toMatchObject([{ id: 2 }, { id: 1, liftedAt: expect.any(String) }]);
});

test("provenance and its undoing are for administrators", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const token = await server.token({ "*": ["pull", "push", "delete", "destroy"] });
  const { storePathHash } = await createTestPath("tool");
  const audit = `/_flywheel/v1/audit/paths/${storePathHash}`;

  for (const [method, url] of [
    ["GET", audit],
    ["GET", REVOCATIONS],
    ["DELETE", `${REVOCATIONS}/1`],
  ] as const) {
    expect((await server.send(method, url, { token })).status).toBe(403);
    expect((await server.send(method, url)).status).toBe(401);
  }
  expect((await postJson(server, token, REVOCATIONS, { run: "1" })).status).toBe(403);
  const admin = await server.token({}, { isAdmin: true });
  expect((await postJson(server, admin, REVOCATIONS, {})).status).toBe(400);
  expect((await postJson(server, admin, REVOCATIONS, { runs: "1" })).status).toBe(400);
  expect((await server.send("GET", audit, { token: admin })).status).toBe(404);
});

test("who took a NAR without its narinfo is a reader, and who only asked for it is none", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const admin = await server.token({}, { isAdmin: true });
  const path = await createTestPath("tool");
  await pushAttic(server, await jobToken(server, { run: "1" }), "main", path);
  const narInfo = `/main/${path.storePathHash}.narinfo`;
  const first = await jobToken(server, { run: "2" });
  const { url } = parseNarInfo((await server.send("GET", narInfo, { token: first })).text);
  // From the store, and from memory.
  for (const run of ["3", "4"]) {
    const token = await jobToken(server, { run });
    expect((await server.send("GET", `/main/${url}`, { token })).status).toBe(200);
  }
  const asking = await jobToken(server, { run: "5" });
  expect((await server.send("HEAD", `/main/${url}`, { token: asking })).status).toBe(200);

  const audit = `/_flywheel/v1/audit/paths/${path.storePathHash}`;
  const known = await server.send("GET", audit, { token: admin });
  expect(known.json()).toMatchObject({ views: [{ writers: [{ run: "1" }] }] });
  const runs = new Set([...known.text.matchAll(/"run":"(\d)"/g)].map(([, run]) => run));
  expect(runs).toEqual(new Set(["1", "2", "3", "4"]));
});

test("who wrote a build log is known, by its kind and name", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const admin = await server.token({}, { isAdmin: true });
  const token = await jobToken(server, { run: "9" });
  const { storePathHash } = await createTestPath("tool");
  const name = `${storePathHash}-tool.drv`;
  const headers = { "user-agent": "curl/8.7.1 Nix/2.34.8" };
  const put = await server.send("PUT", `/main/log/${name}`, { token, body: "built", headers });
  expect(put.status).toBe(200);

  const audit = "/_flywheel/v1/audit/documents";
  expect((await server.send("GET", `${audit}/log/${name}`, { token: admin })).json()).toMatchObject(
    {
      kind: "log",
      name,
      views: [
        {
          view: "main",
          state: "present",
          writers: [{ run: "9", client: "curl/8.7.1 Nix/2.34.8" }],
          readers: [],
        },
      ],
    },
  );
  for (const [asked, status] of [
    [`${audit}/log/other.drv`, 404],
    [`${audit}/path/${name}`, 400],
  ] as const) {
    expect((await server.send("GET", asked, { token: admin })).status).toBe(status);
  }
  expect((await server.send("GET", `${audit}/log/${name}`, { token })).status).toBe(403);
});

test("reads are recorded only where that is wanted", async () => {
  await using server = await startTestServer({ recordReads: "false" });
  await server.createView("main");
  const job = await jobToken(server);
  const path = await createTestPath("tool");
  await pushAttic(server, job, "main", path);
  await server.send("GET", `/main/${path.storePathHash}.narinfo`, { token: job });

  const admin = await server.token({}, { isAdmin: true });
  const audit = await server.send("GET", `/_flywheel/v1/audit/paths/${path.storePathHash}`, {
    token: admin,
  });
  expect(audit.json()).toMatchObject({ views: [{ writers: [{ run: "1" }], readers: [] }] });
});
