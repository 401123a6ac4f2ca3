import { ActionCache } from "@glorious/reapi";
import { githubClaims } from "@glorious/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { blobOf, randomBlob } from "./bazel/blobs.ts";
import { openGrpcClient } from "./bazel/grpc-client.ts";
import {
  type Claims,
  exchangeJob,
  type IdentityServer,
  MAIN_JOB,
  REVIEW_JOB,
  startIdentityServer,
} from "./identity-policy.ts";
import { atticNarInfo, createTestPath, type TestPath } from "./test-path.ts";
import type { TestAnswer, TestServer } from "./test-server.ts";
import { closurePath, encode, pushAttic, putNar } from "./uploads.ts";

const PROJECT = { owner: "acme", ownerId: 1001, repository: "acme/site", repositoryId: 2001 };
/** Code of a fork that runs with the repository's own name. */
const FORK_JOB = githubClaims({ ...PROJECT, event: "pull_request_target" });
/** Whoever can comment starts it. */
const COMMENT_JOB = githubClaims({ ...PROJECT, event: "issue_comment" });

async function tokenOf(world: IdentityServer, claims: Claims): Promise<string> {
  return (await exchangeJob(world, claims)).token;
}

/** Other ways to write `acme+main`, and to climb to it. */
const SPELLINGS = [
  "acme+main",
  "acme%2Bmain",
  "%61cme+main",
  "./acme+main",
  "/acme+main",
  "acme+main/.",
  "acme+main_pr-12/../acme+main",
  "acme+main_pr-12%2F..%2Facme+main",
  "acme+main_pr-12/%2e%2e/acme+main",
  "ACME+MAIN",
  "acme+main%00",
  "acme+main%20",
  "acme%EF%BC%8Bmain",
  "acme+m%D0%B0in",
  "acme+main;x=1",
  "acme+main_pr-12\\..\\acme+main",
];

type Attempt = readonly [
  what: string,
  method: string,
  path: string,
  body: string | Uint8Array,
  headers?: Record<string, string>,
];

/** Everything that would write into the view, if it could. */
async function attemptsOn(view: string, path: TestPath): Promise<Attempt[]> {
  const json = { "content-type": "application/json" };
  const blob = blobOf("poison");
  const ours = `/_flywheel/v1/views/${view}`;
  const encoded = await encode(path);
  const closure = JSON.stringify({ paths: [closurePath(path)] });
  return [
    ["narinfo", "PUT", `/${view}/${path.storePathHash}.narinfo`, "StorePath: x\n"],
    ["NAR", "PUT", `/${view}/nar/${path.narHash}.nar`, path.nar],
    ["log", "PUT", `/${view}/log/${path.baseName}.drv`, "poison"],
    [
      "our NAR",
      "PUT",
      `${ours}/nars/${path.narHash}?size=${path.nar.length}&compression=zstd`,
      encoded,
    ],
    ["closure", "POST", `${ours}/closures`, closure, json],
    ["parts", "POST", `${ours}/uploads`, "{}", json],
    ["pin", "PUT", `${ours}/pins/x`, JSON.stringify({ storePath: path.storePath }), json],
    ["key", "POST", `${ours}/keys`, "{}", json],
    ["collection", "POST", `${ours}/gc`, ""],
    ["limits", "PATCH", ours, JSON.stringify({ maxSizeBytes: 1 }), json],
    ["path", "DELETE", `${ours}/paths/${path.storePathHash}`, ""],
    ["configuration", "PATCH", `/_api/v1/cache-config/${view}`, '{"is_public":true}', json],
    ["view", "DELETE", `/_api/v1/cache-config/${view}`, ""],
    ["blob", "PUT", `/${view}/cas/${blob.hash}`, blob.bytes],
    ["ActionResult", "PUT", `/${view}/ac/${blob.hash}`, '{"exitCode":0}', json],
    ["value", "PUT", `/${view}/kv/key`, "poison"],
  ];
}

/** Attic's upload under any name at all: a header holds ASCII only, and JSON can say the rest. */
function pushNamed(
  server: TestServer,
  token: string | undefined,
  cache: string,
  path: TestPath,
): Promise<TestAnswer> {
  const info = atticNarInfo(cache, path).replaceAll(
    /[^ -~]/g,
    (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  return server.send("PUT", "/_api/v1/upload-path", {
    ...(token === undefined ? {} : { token }),
    headers: { "x-attic-nar-info": info },
    body: path.nar,
  });
}

async function stateOf(server: TestServer, token: string): Promise<unknown> {
  const stats = await server.send("GET", "/_flywheel/v1/views/acme+main/stats", { token });
  const keys = await server.send("GET", "/_flywheel/v1/views/acme+main/keys", { token });
  const config = await server.send("GET", "/_api/v1/cache-config/acme+main", { token });
  expect([stats.status, keys.status, config.status]).toEqual([200, 200, 200]);
  const { bazel, latency: _, ...paths } = stats.json();
  const { blobs, actions, keyedValues } = bazel as Record<string, unknown>;
  return [paths, { blobs, actions, keyedValues }, keys.json(), config.json()];
}

describe("TanStack, Cline and GitLab 506381: what others start, and other spellings", () => {
  let world: IdentityServer;
  let main: string;
  beforeAll(async () => {
    world = await startIdentityServer();
    main = await tokenOf(world, MAIN_JOB);
    await pushAttic(world.server, main, "acme+main", await createTestPath("good"));
  });
  afterAll(() => world[Symbol.asyncDispose]());

  test.each<[string, Claims | undefined]>([
    ["pull_request_target", FORK_JOB],
    ["a comment", COMMENT_JOB],
    ["a pull request of the same repository", REVIEW_JOB],
    ["nobody", undefined],
  ])(
    "a job that is started by %s changes main by no route and no spelling of its name",
    async (_, claims) => {
      const { server } = world;
      const token = claims === undefined ? undefined : await tokenOf(world, claims);
      const path = await createTestPath("poisoned");
      const before = await stateOf(server, main);

      for (const view of SPELLINGS) {
        for (const [what, method, target, body, headers = {}] of await attemptsOn(view, path)) {
          const answer = await server.send(method, target, {
            ...(token === undefined ? {} : { token }),
            headers: {
              ...headers,
              "x-forwarded-host": "acme+main",
              "x-original-url": "/acme+main",
            },
            body,
          });
          expect([view, what, answer.status]).toEqual([
            view,
            what,
            expect.toSatisfy((status) => status >= 400 && status < 500),
          ]);
        }
        const attic = await pushNamed(server, token, decodeURIComponent(view), path);
        expect([view, attic.status]).toEqual([
          view,
          expect.toSatisfy((status) => status >= 400 && status < 500),
        ]);
      }

      expect(await stateOf(server, main)).toEqual(before);
    },
  );

  test("nor over gRPC, with the view in the instance name", async () => {
    const { server } = world;
    const before = await stateOf(server, main);
    const action = randomBlob(10);
    for (const claims of [FORK_JOB, REVIEW_JOB]) {
      await using client = openGrpcClient(server, await tokenOf(world, claims));
      for (const instanceName of [
        "acme+main",
        "acme+main/x",
        "acme+main_pr-12/../acme+main",
        "./acme+main",
        "ACME+main",
        "",
      ]) {
        const answer = await client.unary(ActionCache.method.updateActionResult, {
          instanceName,
          actionDigest: { hash: action.hash, sizeBytes: BigInt(action.sizeBytes) },
          actionResult: { exitCode: 0, stdoutRaw: Buffer.from("poison") },
        });
        expect([instanceName, answer.code]).not.toEqual([instanceName, 0]);
      }
    }
    expect(await stateOf(server, main)).toEqual(before);
  });
});

test("Nx CREEP (CVE-2025-36852): whoever writes a path first, main and a pull request each read their own", async () => {
  const good = await createTestPath("library", "as reviewed");
  const bad = await createTestPath("library", "patched tool");
  expect(good.storePath).toBe(bad.storePath);
  for (const isMainFirst of [true, false]) {
    await using world = await startIdentityServer();
    const { server } = world;
    const jobs = [
      { token: await tokenOf(world, MAIN_JOB), view: "acme+main", path: good },
      { token: await tokenOf(world, REVIEW_JOB), view: "acme+main_pr-12", path: bad },
    ];
    for (const { token, view, path } of isMainFirst ? jobs : jobs.toReversed()) {
      expect((await pushAttic(server, token, view, path)).status).toBe(200);
    }
    for (const { token, view, path } of jobs) {
      const narinfo = await server.send("GET", `/${view}/${path.storePathHash}.narinfo`, { token });
      const nar = /^URL: (.+)$/m.exec(narinfo.text)?.[1] ?? "";
      expect(narinfo.status).toBe(200);
      const other = jobs.find((job) => job.view !== view);
      const stolen = await server.send("GET", `/${view}/${nar}`, { token: other?.token ?? "" });
      // The pull request may read what main has; main never what the pull request made.
      expect([view, stolen.status]).toEqual([view, view === "acme+main" ? 200 : 401]);
    }
  }
});

test("GitLab 330047: what a pull request knows of a NAR gives it nothing of a view that has it", async () => {
  await using world = await startIdentityServer();
  const { server } = world;
  const secret = await createTestPath("secret");
  const globex = githubClaims({
    ...PROJECT,
    repository: "globex/app",
    repositoryId: 3001,
    ownerId: 9,
  });
  const owner = await tokenOf(world, globex);
  expect((await pushAttic(server, owner, "globex+main", secret)).status).toBe(200);
  const review = await tokenOf(world, REVIEW_JOB);
  const commit = await server.send("POST", "/_flywheel/v1/views/acme+main_pr-12/closures", {
    token: review,
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ paths: [closurePath(secret)] }),
  });
  expect(commit.json()).toMatchObject({ code: 409, missingNars: [secret.narHash] });
  for (const view of ["acme+main_pr-12", "acme+main", "globex+main"]) {
    const target = `/${view}/${secret.storePathHash}.narinfo`;
    expect([401, 404]).toContain((await server.send("GET", target, { token: review })).status);
  }
});

test("a freed owner name that somebody registers anew gets nothing: ids decide", async () => {
  await using world = await startIdentityServer();
  const sameNames = githubClaims({ ...PROJECT, ownerId: 777, repositoryId: 778 });
  const answer = await world.exchange({ token: world.issuer.mint(sameNames) });
  expect(answer.json()).toMatchObject({ code: 403, reason: "nothing-granted" });
});

test("a leaked token is worth nothing on any protocol once it is revoked, and other jobs go on", async () => {
  await using world = await startIdentityServer();
  const { server } = world;
  const leaked = await tokenOf(world, MAIN_JOB);
  const other = await tokenOf(world, MAIN_JOB);
  const path = await createTestPath("kept");
  const blob = blobOf("kept");
  expect((await pushAttic(server, leaked, "acme+main", path)).status).toBe(200);
  const jti = server.logs.find((line) => line.message === "exchanged an identity token")?.fields[
    "jti"
  ];
  const admin = await server.token({}, { isAdmin: true });
  await server.send("DELETE", `/_flywheel/v1/tokens/${String(jti)}`, { token: admin });

  const statuses = async (token: string): Promise<number[]> => {
    await using client = openGrpcClient(server, token);
    const call = await client.unary(ActionCache.method.getActionResult, {
      instanceName: "acme+main",
      actionDigest: { hash: blob.hash, sizeBytes: BigInt(blob.sizeBytes) },
    });
    return [
      (await server.send("GET", `/acme+main/${path.storePathHash}.narinfo`, { token })).status,
      (await pushAttic(server, token, "acme+main", path)).status,
      (await putNar(server, token, "acme+main", path, await encode(path))).status,
      (await server.send("PUT", `/acme+main/cas/${blob.hash}`, { token, body: blob.bytes })).status,
      call.code,
    ];
  };
  const [UNAUTHENTICATED, NOT_FOUND] = [16, 5];
  expect(await statuses(leaked)).toEqual([401, 401, 401, 401, UNAUTHENTICATED]);
  expect(await statuses(other)).toEqual([200, 200, 200, 200, NOT_FOUND]);
});
