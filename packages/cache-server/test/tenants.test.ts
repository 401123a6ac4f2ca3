import { parseNarInfo, sha256HexToNix32 } from "@glorious/nix-store";
import { expect, test } from "vitest";

import { createTestPath, type TestPath } from "./test-path.ts";
import { sha256, startTestServer, type TestServer } from "./test-server.ts";
import { closurePath, encode, postJson, pushAttic, putNar } from "./uploads.ts";

async function createTenants(server: TestServer): Promise<{ acme: string; globex: string }> {
  await server.createView("acme+ci");
  await server.createView("globex+ci");
  return {
    acme: await server.token({ "acme+ci": ["pull", "push"] }),
    globex: await server.token({ "globex+ci": ["pull", "push"] }),
  };
}

async function servedFile(
  server: TestServer,
  token: string,
  view: string,
  path: TestPath,
): Promise<Buffer> {
  const { text } = await server.send("GET", `/${view}/${path.storePathHash}.narinfo`, { token });
  return (await server.send("GET", `/${view}/${parseNarInfo(text).url}`, { token })).body;
}

test("two tenants' equal NARs are stored once, and neither can tell", async () => {
  await using server = await startTestServer();
  const { acme, globex } = await createTenants(server);
  const path = await createTestPath("shared", "the same bytes".repeat(100));
  const first = await pushAttic(server, acme, "acme+ci", path);
  const object = (await Array.fromAsync(server.store.list("nar/")))[0]?.key.slice("nar/".length);
  const file = `nar/${sha256HexToNix32(object ?? "")}.nar.zst`;

  const missing = { cache: "globex+ci", store_path_hashes: [path.storePathHash] };
  const asked = await postJson(server, globex, "/_api/v1/get-missing-paths", missing);
  expect(asked.json()).toEqual({ missing_paths: [path.storePathHash] });
  const ours = { paths: [{ storePathHash: path.storePathHash, narHash: path.narHash }] };
  const askedOurs = await postJson(server, globex, "/_flywheel/v1/views/globex+ci/missing", ours);
  expect(askedOurs.json()).toEqual({
    missingPaths: [path.storePathHash],
    missingNars: [path.narHash],
    upstreamPaths: [],
  });
  for (const name of [
    `${path.storePathHash}.narinfo`,
    `${path.storePathHash}.ls`,
    file,
    `nar/${path.storePathHash}.nar`,
  ]) {
    const answer = await server.send("GET", `/globex+ci/${name}`, { token: globex });
    expect([name, answer.status]).toEqual([name, 404]);
  }
  const commit = { paths: [closurePath(path)] };
  const stolen = await postJson(server, globex, "/_flywheel/v1/views/globex+ci/closures", commit);
  expect(stolen.json()).toMatchObject({ code: 409, missingNars: [path.narHash] });

  const second = await pushAttic(server, globex, "globex+ci", path);
  expect(second.json()).toEqual(first.json());
  expect(await Array.fromAsync(server.store.list("nar/"))).toHaveLength(1);
  // What the clock says is no two tenants' alike.
  const clockless = { latency: undefined };
  const [left, right] = await Promise.all(
    (
      [
        ["acme+ci", acme],
        ["globex+ci", globex],
      ] as const
    ).map(([view, token]) => server.send("GET", `/_flywheel/v1/views/${view}/stats`, { token })),
  );
  expect({ ...left?.json(), ...clockless }).toEqual({ ...right?.json(), ...clockless });
  expect(left?.json()).toMatchObject({ paths: 1, uploads: 1, uploadedNarBytes: path.nar.length });
});

test("a tenant that did not prove a NAR does not get it by naming its hash", async () => {
  await using server = await startTestServer();
  const { acme, globex } = await createTenants(server);
  const path = await createTestPath("proof", "something to know");
  await pushAttic(server, acme, "acme+ci", path);
  const lie = Buffer.from(path.nar);
  lie.write("S", lie.indexOf("something"));
  expect((await pushAttic(server, globex, "globex+ci", path, {}, lie)).status).toBe(400);
  expect(
    (await server.send("GET", `/globex+ci/${path.storePathHash}.narinfo`, { token: globex }))
      .status,
  ).toBe(404);
});

test("nobody is served another tenant's encoding of a NAR", async () => {
  await using server = await startTestServer();
  const { acme, globex } = await createTenants(server);
  const path = await createTestPath("encoded", "some text to compress ".repeat(5000));
  const theirs = await encode(path, 19);
  const ours = await encode(path, 1);
  for (const [view, token, bytes] of [
    ["acme+ci", acme, theirs],
    ["globex+ci", globex, ours],
  ] as const) {
    const put = await putNar(server, token, view, path, bytes);
    expect(put.json()).toMatchObject({ kind: "Uploaded", fileHash: sha256(bytes) });
    const commit = { paths: [closurePath(path)] };
    await postJson(server, token, `/_flywheel/v1/views/${view}/closures`, commit);
  }
  expect((await servedFile(server, acme, "acme+ci", path)).equals(theirs)).toBe(true);
  expect((await servedFile(server, globex, "globex+ci", path)).equals(ours)).toBe(true);
  const foreign = `/globex+ci/nar/${sha256HexToNix32(sha256(theirs))}.nar.zst`;
  expect((await server.send("GET", foreign, { token: globex })).status).toBe(404);
});

test("a deleted view takes nothing from another that has the same bytes", async () => {
  await using server = await startTestServer();
  const { acme, globex } = await createTenants(server);
  const path = await createTestPath("kept");
  await pushAttic(server, acme, "acme+ci", path);
  await pushAttic(server, globex, "globex+ci", path);
  const destroyer = await server.token({ "acme+ci": ["destroy"] });
  await server.send("DELETE", "/_api/v1/cache-config/acme+ci", { token: destroyer });
  expect((await servedFile(server, globex, "globex+ci", path)).length).toBeGreaterThan(0);
});

test("the list of views has those that the token names, and public ones", async () => {
  await using server = await startTestServer();
  const { acme } = await createTenants(server);
  await server.createView("open", { isPublic: true });
  const names = async (token?: string): Promise<unknown> => {
    const answer = await server.send(
      "GET",
      "/_flywheel/v1/views",
      token === undefined ? {} : { token },
    );
    return (answer.json()["views"] as { name: string }[]).map((view) => view.name);
  };
  expect(await names()).toEqual(["open"]);
  const bad = await server.send("GET", "/_flywheel/v1/views", { token: "nonsense" });
  expect(bad.json()).toMatchObject({ code: 401, error: "UNAUTHENTICATED" });
  expect(await names(acme)).toEqual(["acme+ci", "open"]);
});
