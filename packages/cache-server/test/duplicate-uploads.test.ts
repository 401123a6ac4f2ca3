import { expect, test } from "vitest";

import { createStoreGate } from "./gated-store.ts";
import { atticNarInfo, createTestPath, type TestPath } from "./test-path.ts";
import { startTestServer, type TestAnswer, type TestServer } from "./test-server.ts";
import { encode, pushAttic, putNar } from "./uploads.ts";

/** Sends half of the NAR and then nothing until it is let go, or dies. */
function pushSlowly(
  server: TestServer,
  token: string,
  path: TestPath,
): { readonly answer: Promise<TestAnswer>; readonly begun: Promise<void>; goOn(): void } {
  const going = Promise.withResolvers<void>();
  const begun = Promise.withResolvers<void>();
  async function* body(): AsyncGenerator<Uint8Array> {
    yield path.nar.subarray(0, path.nar.length / 2);
    begun.resolve();
    await going.promise;
    yield path.nar.subarray(path.nar.length / 2);
  }
  const answer = server.send("PUT", "/_api/v1/upload-path", {
    token,
    headers: { "x-attic-nar-info": atticNarInfo("main", path) },
    body: body(),
  });
  return { answer, begun: begun.promise, goOn: going.resolve };
}

const sameNar = (...names: string[]): Promise<TestPath[]> =>
  Promise.all(names.map((name) => createTestPath(name, "the same contents".repeat(100))));

test("uploads of one NAR at the same time encode and store it once", async () => {
  const gate = createStoreGate();
  await using server = await startTestServer({}, { wrapStore: gate.wrap });
  await server.createView("main");
  const token = await server.token({ main: ["push"] });
  const paths = await sameNar("a", "b", "c", "d");
  const [first] = paths as [TestPath, ...TestPath[]];

  const answers = paths.map((path) => pushAttic(server, token, "main", path));
  answers.push(putNar(server, token, "main", first, await encode(first, 1)));
  await gate.stored;
  gate.open();

  const kinds = (await Promise.all(answers)).map((answer) => answer.json()["kind"]);
  expect(kinds.filter((kind) => kind === "Uploaded")).toHaveLength(1);
  expect(kinds.filter((kind) => kind === "Deduplicated")).toHaveLength(4);
  expect(gate.puts).toBe(1);
});

test("an upload does not wait for ever for a slower one of the same NAR", async () => {
  await using server = await startTestServer({}, { timings: { maxDuplicateWaitMs: 50 } });
  const view = await server.createView("main");
  const token = await server.token({ main: ["push"] });
  const [slow, quick] = (await sameNar("slow", "quick")) as [TestPath, TestPath];
  const stuck = pushSlowly(server, token, slow);
  await stuck.begun;

  expect((await pushAttic(server, token, "main", quick)).json()).toMatchObject({
    kind: "Uploaded",
  });

  stuck.goOn();
  expect((await stuck.answer).json()).toMatchObject({ kind: "Deduplicated" });
  expect(await server.index.viewStats(view.id)).toMatchObject({ paths: 2, nars: 1 });
});

test("an upload takes over when the one it waited for fails", async () => {
  await using server = await startTestServer({ idleTimeoutMs: "100ms" });
  await server.createView("main");
  const token = await server.token({ main: ["push"] });
  const [slow, quick] = (await sameNar("slow", "quick")) as [TestPath, TestPath];
  const stuck = pushSlowly(server, token, slow);
  await stuck.begun;

  expect((await pushAttic(server, token, "main", quick)).json()).toMatchObject({
    kind: "Uploaded",
  });
  expect((await stuck.answer).status).toBe(408);
  stuck.goOn();
});

test("a NAR that another tenant is uploading is waited for by nobody", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  await server.createView("other");
  const token = await server.token({ main: ["push"], other: ["push"] });
  const [slow, quick] = (await sameNar("slow", "quick")) as [TestPath, TestPath];
  const stuck = pushSlowly(server, token, slow);
  await stuck.begun;
  expect((await pushAttic(server, token, "other", quick)).json()).toMatchObject({
    kind: "Uploaded",
  });
  stuck.goOn();
  expect((await stuck.answer).json()).toMatchObject({ kind: "Uploaded" });
});
