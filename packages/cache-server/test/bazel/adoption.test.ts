import { create, toBinary } from "@bufbuild/protobuf";
import { ActionResultSchema } from "@glorious/reapi";
import { githubClaims } from "@glorious/testkit";
import { expect, test } from "vitest";

import {
  type ExchangedJob,
  exchangeJob,
  type IdentityServer,
  startIdentityServer,
} from "../identity-policy.ts";
import type { TestAnswer } from "../test-server.ts";
import { postJson } from "../uploads.ts";
import { randomBlob, type TestBlob } from "./blobs.ts";

const SITE = { owner: "acme", ownerId: 1001, repository: "acme/site", repositoryId: 2001 };
const QUEUE_REF = "refs/heads/gh-readonly-queue/main/pr-12-6f1ed002";
const QUEUE = githubClaims({ ...SITE, ref: QUEUE_REF, event: "merge_group", runId: 70 });
const LANDING = githubClaims({ ...SITE, runId: 71 });

interface Step {
  readonly action: TestBlob;
  readonly output: TestBlob;
}

const step = (outputBytes = 100_000): Step => ({
  action: randomBlob(10),
  output: randomBlob(outputBytes),
});

async function build(
  { server }: IdentityServer,
  { token, write }: ExchangedJob,
  { action, output }: Step,
  isComplete = true,
): Promise<void> {
  const { hash, sizeBytes, bytes } = output;
  if (isComplete) {
    const blob = await server.send("PUT", `/${write}/cas/${hash}`, { token, body: bytes });
    expect(blob.status).toBe(200);
  }
  const result = create(ActionResultSchema, {
    outputFiles: [{ path: "out", digest: { hash, sizeBytes: BigInt(sizeBytes) } }],
  });
  const body = Buffer.from(toBinary(ActionResultSchema, result));
  const put = await server.send("PUT", `/${write}/ac/${action.hash}`, { token, body });
  expect(put.status).toBe(200);
}

const get = (world: IdentityServer, token: string, path: string): Promise<TestAnswer> =>
  world.server.send("GET", `/acme+main/${path}`, { token });

test("a push takes over the queue's ActionResults with what they need, and no byte is stored twice", async () => {
  await using world = await startIdentityServer();
  const { server } = world;
  const queue = await exchangeJob(world, QUEUE);
  const [large, small] = [step(), step(100)];
  await build(world, queue, large);
  await build(world, queue, small);
  const base = await server.index.findView("acme+main");
  const store = await server.bazel.openStore(base ?? expect.unreachable());
  const { storedBytes } = store;

  const landing = await exchangeJob(world, LANDING);

  expect(landing.notices).toEqual([expect.stringContaining(`Adopted 2 entries of ${queue.write}`)]);
  expect(store.storedBytes - storedBytes).toBeLessThan(1000);
  for (const { action, output } of [large, small]) {
    expect((await get(world, landing.token, `ac/${action.hash}`)).status).toBe(200);
    const blob = await get(world, landing.token, `cas/${output.hash}`);
    expect(blob.body.equals(output.bytes)).toBe(true);
  }
  expect((await exchangeJob(world, LANDING)).notices).toEqual([]);
  // It does not depend on the overlay any more.
  await server.index.deleteView(queue.write);
  await server.bazel.housekeep();
  const blob = await get(world, landing.token, `cas/${large.output.hash}`);
  expect(blob.body.equals(large.output.bytes)).toBe(true);
});

test.each(["70", "71"])("revoking run %s takes what was adopted away", async (run) => {
  await using world = await startIdentityServer();
  const { server } = world;
  const admin = await server.token({}, { isAdmin: true });
  const queue = await exchangeJob(world, QUEUE);
  const built = step();
  await build(world, queue, built);
  await exchangeJob(world, LANDING);
  const reader = await exchangeJob(
    world,
    githubClaims({ ...SITE, runId: 80, commit: "0".repeat(40) }),
  );
  const path = `ac/${built.action.hash}`;
  expect((await get(world, reader.token, path)).status).toBe(200);
  const audit = `/_flywheel/v1/audit/actions/${built.action.hash}`;
  const views = (await server.send("GET", audit, { token: admin })).json()["views"] as {
    view: string;
    writers: { run: string }[];
  }[];
  const own = views.find(({ view }) => view === "acme+main");
  expect(own?.writers.map((writer) => writer.run).toSorted()).toEqual(["70", "71"]);

  const revoked = await postJson(server, admin, "/_flywheel/v1/revocations", { run });

  expect(revoked.json()["consumers"]).toMatchObject([{ run: "80" }]);
  expect((await get(world, reader.token, path)).status).toBe(404);
  expect((await get(world, reader.token, `cas/${built.output.hash}`)).status).toBe(404);
});

test("what the view has already stays, and so does what another workflow of the queue wrote", async () => {
  await using world = await startIdentityServer();
  const [mine, others] = [step(), step()];
  const queue = await exchangeJob(world, QUEUE);
  await build(world, queue, mine);
  const workflow = "lint.yml";
  const lint = githubClaims({ ...SITE, ref: QUEUE_REF, event: "merge_group", workflow, runId: 72 });
  await build(world, await exchangeJob(world, lint), others);
  const before = await exchangeJob(
    world,
    githubClaims({ ...SITE, runId: 60, commit: "0".repeat(40) }),
  );
  const own = { ...mine, output: randomBlob(50) };
  await build(world, before, own);

  const landing = await exchangeJob(world, LANDING);

  const { body } = await get(world, landing.token, `ac/${mine.action.hash}`);
  expect(body.includes(own.output.hash)).toBe(true);
  expect((await get(world, landing.token, `ac/${others.action.hash}`)).status).toBe(404);
});
