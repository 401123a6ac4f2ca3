import { ActionCache, ContentAddressableStorage } from "@glorious/reapi";
import { githubClaims } from "@glorious/testkit";
import { expect, test } from "vitest";

import {
  type Claims,
  exchangeJob,
  type IdentityServer,
  MAIN_JOB,
  REVIEW_JOB,
  startIdentityServer,
} from "../identity-policy.ts";
import { type TestBlob, textBlob } from "./blobs.ts";
import { type GrpcClient, openGrpcClient } from "./grpc-client.ts";

const [OK, NOT_FOUND] = [0, 5];
const [MAIN, REVIEW] = ["acme+main", "acme+main_pr-12"];

/** A job with its token, over gRPC and HTTP. */
interface Job extends AsyncDisposable {
  readonly token: string;
  readonly client: GrpcClient;
  upload(instanceName: string, ...blobs: readonly TestBlob[]): Promise<void>;
  missing(instanceName: string, ...blobs: readonly TestBlob[]): Promise<string[]>;
  update(instanceName: string, action: TestBlob, files: readonly TestBlob[]): Promise<number>;
  /** The paths of the files of what is stored; the status when there is nothing. */
  get(instanceName: string, action: TestBlob): Promise<string[] | number>;
}

const digestOf = ({ hash, sizeBytes }: TestBlob) => ({ hash, sizeBytes: BigInt(sizeBytes) });

async function startJob(world: IdentityServer, claims: Claims): Promise<Job> {
  const { token } = await exchangeJob(world, claims);
  const client = openGrpcClient(world.server, token);
  return {
    token,
    client,
    async upload(instanceName, ...blobs) {
      const sent = await client.unary(ContentAddressableStorage.method.batchUpdateBlobs, {
        instanceName,
        requests: blobs.map((blob) => ({ digest: digestOf(blob), data: blob.bytes })),
      });
      expect(sent).toMatchObject({ code: OK });
    },
    async missing(instanceName, ...blobs) {
      const answered = await client.unary(ContentAddressableStorage.method.findMissingBlobs, {
        instanceName,
        blobDigests: blobs.map(digestOf),
      });
      if (!("message" in answered)) throw new Error(answered.details);
      return answered.message.missingBlobDigests.map(({ hash }) => hash);
    },
    async update(instanceName, action, files) {
      const updated = await client.unary(ActionCache.method.updateActionResult, {
        instanceName,
        actionDigest: digestOf(action),
        actionResult: {
          outputFiles: files.map((file) => ({
            path: file.hash.slice(0, 8),
            digest: digestOf(file),
          })),
        },
      });
      return updated.code;
    },
    async get(instanceName, action) {
      const found = await client.unary(ActionCache.method.getActionResult, {
        instanceName,
        actionDigest: digestOf(action),
      });
      return "message" in found ? found.message.outputFiles.map(({ path }) => path) : found.code;
    },
    [Symbol.asyncDispose]: () => client[Symbol.asyncDispose](),
  };
}

const pathsOf = (...files: readonly TestBlob[]): string[] =>
  files.map(({ hash }) => hash.slice(0, 8));

test("a pull request reads what main built, adds what main lacks, and main never sees it", async () => {
  await using world = await startIdentityServer();
  const { server } = world;
  await using main = await startJob(world, MAIN_JOB);
  await using review = await startJob(world, REVIEW_JOB);
  const [library, program, large] = [textBlob(400), textBlob(500), textBlob(200_000)];
  const [builtByMain, builtByReview] = [textBlob(90), textBlob(91)];
  await main.upload(MAIN, library, large);
  expect(await main.update(MAIN, builtByMain, [library, large])).toBe(OK);

  expect(await review.get(REVIEW, builtByMain)).toEqual(pathsOf(library, large));
  expect(await review.missing(REVIEW, library, program, large)).toEqual([program.hash]);
  const overHttp = await server.send("GET", `/${REVIEW}/cas/${large.hash}`, {
    token: review.token,
  });
  expect([overHttp.status, overHttp.body.equals(large.bytes)]).toEqual([200, true]);
  const action = await server.send("GET", `/${REVIEW}/ac/${builtByMain.hash}`, {
    token: review.token,
  });
  expect(action.status).toBe(200);

  await review.upload(REVIEW, program);
  // What it needs lies in two views.
  expect(await review.update(REVIEW, builtByReview, [library, program])).toBe(OK);
  await using again = await startJob(world, REVIEW_JOB);
  for (const job of [review, again]) {
    expect(await job.get(REVIEW, builtByReview)).toEqual(pathsOf(library, program));
    expect(await job.get(REVIEW, builtByMain)).toEqual(pathsOf(library, large));
    expect(await job.missing(REVIEW, library, program, large)).toEqual([]);
  }

  await using later = await startJob(world, MAIN_JOB);
  expect(await later.get(MAIN, builtByReview)).toBe(NOT_FOUND);
  expect(await later.missing(MAIN, library, program)).toEqual([program.hash]);
  expect(await later.get(REVIEW, builtByReview)).not.toEqual(pathsOf(library, program));
});

test("an ActionResult that main has is not replaced for a pull request, and its own is no answer for main", async () => {
  await using world = await startIdentityServer();
  await using main = await startJob(world, MAIN_JOB);
  await using review = await startJob(world, REVIEW_JOB);
  const [good, bad, shared, own] = [textBlob(100), textBlob(101), textBlob(102), textBlob(103)];
  await main.upload(MAIN, good);
  await main.update(MAIN, shared, [good]);
  await review.upload(REVIEW, bad);
  expect(await review.update(REVIEW, shared, [bad])).toBe(OK);
  expect(await review.get(REVIEW, shared)).toEqual(pathsOf(good));

  expect(await review.update(REVIEW, own, [bad])).toBe(OK);
  await main.update(MAIN, own, [good]);
  expect(await main.get(MAIN, own)).toEqual(pathsOf(good));
  expect(await review.get(REVIEW, own)).toEqual(pathsOf(bad));
});

test("what lies in two views is whole only as long as both have their part", async () => {
  await using world = await startIdentityServer();
  await using main = await startJob(world, MAIN_JOB);
  await using review = await startJob(world, REVIEW_JOB);
  const [library, program, action] = [textBlob(50_000), textBlob(500), textBlob(90)];
  await main.upload(MAIN, library);
  await review.upload(REVIEW, program);
  await review.update(REVIEW, action, [library, program]);
  expect(await review.get(REVIEW, action)).toEqual(pathsOf(library, program));

  const view = await world.server.index.findView(MAIN);
  if (view === undefined) throw new Error("There is no main");
  await (await world.server.bazel.openStore(view)).lose(library.key);
  expect(await review.get(REVIEW, action)).toBe(NOT_FOUND);
  expect(await review.missing(REVIEW, library, program)).toEqual([library.hash]);

  await review.upload(REVIEW, library);
  expect(await review.get(REVIEW, action)).toEqual(pathsOf(library, program));
  expect(await main.missing(MAIN, library)).toEqual([library.hash]);
});

test("instances below a view have instances of their own behind them", async () => {
  await using world = await startIdentityServer();
  await using main = await startJob(world, MAIN_JOB);
  await using review = await startJob(world, REVIEW_JOB);
  const [file, action] = [textBlob(100), textBlob(90)];
  await main.upload(`${MAIN}/linux`, file);
  await main.update(`${MAIN}/linux`, action, [file]);
  expect(await review.get(`${REVIEW}/linux`, action)).toEqual(pathsOf(file));
  expect(await review.get(`${REVIEW}/mac`, action)).toBe(NOT_FOUND);
  expect(await review.get(REVIEW, action)).toBe(NOT_FOUND);
});

test("a shared view's results are hits for tenants that opt in, and nothing of theirs gets into it", async () => {
  const project = (owner: string, id: number): Claims =>
    githubClaims({ owner, ownerId: id, repository: `${owner}/site`, repositoryId: id });
  const trusted = { refs: ["refs/heads/main"] };
  const tenant = (id: string, reads: string[]) => ({
    views: { main: { reads } },
    scopes: [{ issuer: "forge", repository: { id }, trusted }],
  });
  await using world = await startIdentityServer({
    policy: (issuer) =>
      JSON.stringify({
        version: 1,
        issuers: { forge: { kind: "github", issuer } },
        tenants: {
          acme: tenant("1", ["commons"]),
          globex: tenant("2", ["commons"]),
          other: tenant("3", []),
        },
        sharedViews: {
          commons: { writers: [{ issuer: "forge", repository: { id: "9" }, trusted }] },
        },
      }),
  });
  const { issuer, server } = world;
  const asked = await world.exchange({ token: issuer.mint(project("keeper", 9)), view: "commons" });
  const keeper = openGrpcClient(server, String(asked.json()["token"]));
  const [compiler, action, own] = [textBlob(700), textBlob(90), textBlob(91)];
  const stored = await keeper.unary(ContentAddressableStorage.method.batchUpdateBlobs, {
    instanceName: "commons",
    requests: [{ digest: digestOf(compiler), data: compiler.bytes }],
  });
  expect(stored.code).toBe(OK);
  await keeper.unary(ActionCache.method.updateActionResult, {
    instanceName: "commons",
    actionDigest: digestOf(action),
    actionResult: { outputFiles: [{ path: "cc", digest: digestOf(compiler) }] },
  });
  await using acme = await startJob(world, project("acme", 1));
  await using globex = await startJob(world, project("globex", 2));
  await using other = await startJob(world, project("other", 3));
  expect(await acme.get("acme+main", action)).toEqual(["cc"]);
  expect(await globex.get("globex+main", action)).toEqual(["cc"]);
  expect(await other.get("other+main", action)).toBe(NOT_FOUND);

  // Of what is in two tenants' stores.
  await acme.upload("acme+main", own);
  expect(await acme.update("acme+main", own, [own, compiler])).toBe(OK);
  expect(await acme.get("acme+main", own)).toEqual(pathsOf(own, compiler));
  expect(await globex.get("globex+main", own)).toBe(NOT_FOUND);
  expect(await acme.update("commons", own, [own])).not.toBe(OK);
  await keeper[Symbol.asyncDispose]();
});

test("Cline, February 2026: a flooded overlay pushes out nothing of main, however old that is, and main makes room there", async () => {
  await using world = await startIdentityServer({
    settings: { bazelMaxSizeBytes: "1 MiB", bazelTtlMs: "1m" },
  });
  const { server } = world;
  await using main = await startJob(world, MAIN_JOB);
  const trusted = Array.from({ length: 10 }, () => textBlob(30_000));
  await main.upload(MAIN, ...trusted);
  server.advance(12 * 60_000);
  await using review = await startJob(world, {
    ...REVIEW_JOB,
    // The forge's clock goes with the server's.
    iat: Math.floor(Date.now() / 1000) + 720,
    nbf: Math.floor(Date.now() / 1000) + 720,
    exp: Math.floor(Date.now() / 1000) + 1020,
  });
  let refused = 0;
  const flood: TestBlob[] = [];
  for (let round = 0; round < 60; round += 1) {
    const blob = textBlob(30_000);
    const put = await server.send("PUT", `/${REVIEW}/cas/${blob.hash}`, {
      token: review.token,
      body: blob.bytes,
    });
    if (put.status === 200) flood.push(blob);
    else refused += 1;
  }
  expect(flood.length).toBeGreaterThan(0);
  expect(refused).toBeGreaterThan(0);
  const freshMain = await server.token({ [MAIN]: ["pull", "push"] });
  const present = async (blob: TestBlob): Promise<boolean> =>
    (await server.send("HEAD", `/${MAIN}/cas/${blob.hash}`, { token: freshMain })).status === 200;
  const kept = [];
  for (const blob of trusted) kept.push(await present(blob));
  expect(kept).toEqual(trusted.map(() => true));

  server.advance(60_000);
  for (let round = 0; round < 10; round += 1) {
    const blob = textBlob(30_000);
    const put = await server.send("PUT", `/${MAIN}/cas/${blob.hash}`, {
      token: freshMain,
      body: blob.bytes,
    });
    expect([round, put.status, put.text]).toEqual([round, 200, expect.any(String)]);
  }
  for (const blob of trusted) expect(await present(blob)).toBe(true);
});
