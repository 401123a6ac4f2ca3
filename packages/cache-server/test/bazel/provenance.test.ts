import { randomBytes } from "node:crypto";

import { create, toBinary } from "@bufbuild/protobuf";
import { ActionResultSchema } from "@glorious/reapi";
import { expect, test } from "vitest";

import { jobToken } from "../job-tokens.ts";
import { startTestServer, type TestServer } from "../test-server.ts";
import { postJson } from "../uploads.ts";
import { blobOf, randomBlob, type TestBlob } from "./blobs.ts";

const REVOCATIONS = "/_flywheel/v1/revocations";

function resultOf(output: TestBlob): Buffer {
  const { hash, sizeBytes } = output;
  const digest = { hash, sizeBytes: BigInt(sizeBytes) };
  const result = create(ActionResultSchema, { outputFiles: [{ path: "out", digest }] });
  return Buffer.from(toBinary(ActionResultSchema, result));
}

/** Builds: puts the output, then the ActionResult. */
async function build(
  server: TestServer,
  token: string,
  { action, output }: { readonly action: TestBlob; readonly output: TestBlob },
): Promise<readonly number[]> {
  const headers = { "user-agent": "bazel/8.4.2" };
  const blob = await server.send("PUT", `/main/cas/${output.hash}`, {
    token,
    body: output.bytes,
    headers,
  });
  const body = resultOf(output);
  const put = await server.send("PUT", `/main/ac/${action.hash}`, { token, body, headers });
  return [blob.status, put.status];
}

test("a poisoned run is undone in Bazel's cache too: absent at once on every route, its readers named, and built anew", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const admin = await server.token({}, { isAdmin: true });
  const poisoned = await jobToken(server, { run: "666" });
  const reader = await jobToken(server, { run: "7" });
  const healthy = await jobToken(server, { run: "8" });
  const bad = { action: randomBlob(10), output: randomBlob(100_000) };
  const fine = { action: randomBlob(10), output: randomBlob(100) };
  expect(await build(server, poisoned, bad)).toEqual([200, 200]);
  expect(await build(server, healthy, fine)).toEqual([200, 200]);
  const value = { token: poisoned, body: Buffer.from("bad") };
  expect((await server.send("PUT", "/main/kv/key", value)).status).toBe(201);
  const reads = [
    `/main/ac/${bad.action.hash}`,
    `/main/cas/${bad.output.hash}`,
    "/main/kv/key",
  ] as const;
  for (const read of reads) {
    expect((await server.send("GET", read, { token: reader })).status).toBe(200);
  }

  const preview = await postJson(server, admin, REVOCATIONS, { run: "666", dryRun: true });
  const effect = {
    entries: 3,
    samples: [
      { view: "main", kind: "action", name: bad.action.hash },
      { view: "main", kind: "value", name: "key" },
      { view: "main", kind: "blob", name: bad.output.hash },
    ],
    writers: [{ run: "666", repository: "acme/app" }],
    consumers: [{ run: "7", entries: 2 }],
  };
  expect(preview.json()).toMatchObject({ dryRun: true, ...effect });
  expect((await server.send("GET", reads[0], { token: reader })).status).toBe(200);

  const revoked = await postJson(server, admin, REVOCATIONS, { run: "666" });
  expect(revoked.json()).toMatchObject({ dryRun: false, ...effect });
  for (const read of reads) {
    expect([read, (await server.send("GET", read, { token: reader })).status]).toEqual([read, 404]);
  }
  const spared = `/main/ac/${fine.action.hash}`;
  expect((await server.send("GET", spared, { token: reader })).status).toBe(200);
  expect(await build(server, poisoned, bad)).toEqual([401, 401]);

  const audit = `/_flywheel/v1/audit/actions/${bad.action.hash}`;
  expect((await server.send("GET", audit, { token: admin })).json()).toMatchObject({
    hash: bad.action.hash,
    views: [
      {
        view: "main",
        state: "hidden",
        writers: [{ run: "666", client: "bazel/8.4.2" }],
        readers: [{ run: "7" }],
      },
    ],
  });
  expect(await build(server, healthy, bad)).toEqual([200, 200]);
  for (const read of reads.slice(0, 2)) {
    expect([read, (await server.send("GET", read, { token: reader })).status]).toEqual([read, 200]);
  }
  expect((await server.send("GET", audit, { token: admin })).json()).toMatchObject({
    views: [{ state: "present", writers: [{ run: "8" }, { run: "666" }] }],
  });
  const auditBlob = `/_flywheel/v1/audit/blobs/${bad.output.hash}`;
  expect((await server.send("GET", auditBlob, { token: admin })).json()).toMatchObject({
    views: [{ state: "present", writers: [{ run: "8" }], readers: [] }],
  });
});

test("a revocation of Bazel's data is taken back by its number, for its entries or for its tokens alone", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const admin = await server.token({}, { isAdmin: true });
  const job = await jobToken(server, { run: "666" });
  const reader = await jobToken(server, { run: "7" });
  const one = { action: randomBlob(10), output: randomBlob(100) };
  await build(server, job, one);
  const read = `/main/ac/${one.action.hash}`;

  const first = await postJson(server, admin, REVOCATIONS, { run: "666" });
  const firstUrl = `${REVOCATIONS}/${String(first.json()["id"])}`;
  const lifted = await server.send("DELETE", firstUrl, { token: admin });
  expect(lifted.json()).toMatchObject({ restored: 2 });
  expect((await server.send("GET", read, { token: reader })).status).toBe(200);

  const second = await postJson(server, admin, REVOCATIONS, { run: "666" });
  expect(second.json()).toMatchObject({ entries: 2 });
  const secondUrl = `${REVOCATIONS}/${String(second.json()["id"])}?keepHidden=1`;
  const kept = await server.send("DELETE", secondUrl, { token: admin });
  expect(kept.json()).toMatchObject({ restored: 0 });
  expect((await server.send("GET", read, { token: job })).status).toBe(404);
  expect(await build(server, job, one)).toEqual([200, 200]);
  expect((await server.send("GET", read, { token: reader })).status).toBe(200);
});

test("a trusted job's ActionResult takes the place of one that no trusted job wrote, and keeps it from everybody else", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const admin = await server.token({}, { isAdmin: true });
  const person = await server.token({ main: ["pull", "push"] });
  const job = await jobToken(server, { run: "1" });
  const later = await jobToken(server, { run: "2" });
  const action = randomBlob(10);
  const [first, second, third] = [randomBlob(100), randomBlob(100), randomBlob(100)];
  const url = `/main/ac/${action.hash}`;
  const current = async (): Promise<string> =>
    (await server.send("GET", url, { token: job })).body.toString("hex");

  await build(server, person, { action, output: first });
  expect(await current()).toBe(resultOf(first).toString("hex"));
  await build(server, person, { action, output: second });
  expect(await current()).toBe(resultOf(first).toString("hex"));
  await build(server, job, { action, output: second });
  expect(await current()).toBe(resultOf(second).toString("hex"));
  for (const token of [later, person]) {
    expect(await build(server, token, { action, output: third })).toEqual([200, 200]);
    expect(await current()).toBe(resultOf(second).toString("hex"));
  }
  const audit = `/_flywheel/v1/audit/actions/${action.hash}`;
  expect((await server.send("GET", audit, { token: admin })).json()).toMatchObject({
    views: [{ state: "present", writers: [{ run: "1" }, { trust: "token" }] }],
  });
});

test("nothing is known of an action that nobody wrote, and audits are for administrators", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const admin = await server.token({}, { isAdmin: true });
  const token = await jobToken(server);
  const { hash } = blobOf(randomBytes(8).toString("hex"));
  for (const kind of ["actions", "blobs"]) {
    const url = `/_flywheel/v1/audit/${kind}/${hash}`;
    expect((await server.send("GET", url)).status).toBe(401);
    expect((await server.send("GET", url, { token })).status).toBe(403);
    expect((await server.send("GET", url, { token: admin })).status).toBe(404);
    const malformed = `/_flywheel/v1/audit/${kind}/xyz`;
    expect((await server.send("GET", malformed, { token: admin })).status).toBe(400);
  }
});
