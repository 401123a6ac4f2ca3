import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";

import { beforeEach, describe, expect, test } from "vitest";

import { openSqliteIndex } from "../src/index/sqlite-index.ts";
import { openSqliteChanges } from "../src/read-cache/index-changes.ts";
import { createTestPath, type TestPath } from "./test-path.ts";
import { startTestServer, type TestAnswer, type TestServer } from "./test-server.ts";
import { pushAttic } from "./uploads.ts";

interface Pushed extends AsyncDisposable {
  readonly server: TestServer;
  readonly path: TestPath;
  readonly token: string;
  /** Asks twice, so that the second answer comes from memory when there is one. */
  readonly ask: (token?: string, headers?: Record<string, string>) => Promise<TestAnswer>;
}

/** A server that has answered for a path's narinfo, and so remembers it. */
async function startPushed(): Promise<Pushed> {
  const server = await startTestServer();
  await server.createView("main");
  const token = await server.token(
    { main: ["pull", "push", "delete", "configure", "destroy", "create"] },
    { jti: "the-token", isAdmin: true },
  );
  const path = await createTestPath("hello");
  await pushAttic(server, token, "main", path);
  const ask: Pushed["ask"] = async (asking, headers = {}) => {
    const send = (): Promise<TestAnswer> =>
      server.send("GET", `/main/${path.storePathHash}.narinfo`, {
        headers,
        ...(asking === undefined ? {} : { token: asking }),
      });
    await send();
    return send();
  };
  expect((await ask(token)).status).toBe(200);
  return { server, path, token, ask, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
}

describe("a narinfo from memory", () => {
  test("is the answer that was given first, under a request id of its own", async () => {
    await using server = await startTestServer();
    await server.createView("main");
    const token = await server.token({ main: ["pull", "push"] });
    const path = await createTestPath("hello");
    await pushAttic(server, token, "main", path);
    const url = `/main/${path.storePathHash}.narinfo`;

    const first = await server.send("GET", url, { token });
    const second = await server.send("GET", url, { token });

    const { "x-request-id": firstId, date: firstDate, ...firstHeaders } = first.headers;
    const { "x-request-id": secondId, date: secondDate, ...secondHeaders } = second.headers;
    expect(second).toMatchObject({ status: 200, text: first.text });
    expect(secondHeaders).toEqual(firstHeaders);
    expect(firstId).toMatch(/^[0-9a-f]{16}$/);
    expect(secondId).toMatch(/^[0-9a-f]{16}$/);
    expect(secondId).not.toBe(firstId);
    expect([firstDate, secondDate]).not.toContain(undefined);
  });

  test("is 304 for a client that has it, and has no body for HEAD", async () => {
    await using pushed = await startPushed();
    const { server, path, token, ask } = pushed;
    const { etag = "" } = (await ask(token)).headers;

    expect(await ask(token, { "if-none-match": etag })).toMatchObject({ status: 304, text: "" });
    const head = await server.send("HEAD", `/main/${path.storePathHash}.narinfo`, { token });
    expect(head).toMatchObject({ status: 200, text: "" });
    expect(head.headers.etag).toBe(etag);
  });

  test("is for those only who may read the view", async () => {
    await using pushed = await startPushed();
    const { server, ask } = pushed;

    expect((await ask()).status).toBe(401);
    expect((await ask(await server.token({ other: ["pull"] }))).status).toBe(401);
    expect((await ask(await server.token({ main: ["push"] }))).status).toBe(403);
    expect((await ask(await server.token({ main: ["pull"] }))).status).toBe(200);
  });
});

describe("memory knows at once", () => {
  let pushed: Pushed;
  beforeEach(async () => {
    pushed = await startPushed();
    return () => pushed[Symbol.asyncDispose]();
  });

  test("that a path was deleted, and pushed again", async () => {
    const { server, path, token, ask } = pushed;
    const url = `/_flywheel/v1/views/main/paths/${path.storePathHash}`;
    expect((await server.send("DELETE", url, { token })).status).toBe(204);
    expect((await ask(token)).status).toBe(404);

    await pushAttic(server, token, "main", path);
    expect((await ask(token)).status).toBe(200);
  });

  test("that a view was signed anew", async () => {
    const { server, token, ask } = pushed;
    const before = (await ask(token)).text;
    const patch = await server.send("PATCH", "/_api/v1/cache-config/main", {
      token,
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ keypair: "Generate" }),
    });
    expect(patch.status).toBe(200);

    const after = (await ask(token)).text;
    expect(after).not.toBe(before);
    expect(after.replace(/^Sig: .*$/m, "")).toBe(before.replace(/^Sig: .*$/m, ""));
  });

  test("that a view became public, and private again", async () => {
    const { server, token, ask } = pushed;
    const setPublic = async (isPublic: boolean): Promise<void> => {
      const patch = await server.send("PATCH", "/_api/v1/cache-config/main", {
        token,
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ is_public: isPublic }),
      });
      expect(patch.status).toBe(200);
    };
    await setPublic(true);
    expect(await ask()).toMatchObject({
      status: 200,
      headers: { "cache-control": "public, max-age=300" },
    });
    await setPublic(false);
    expect((await ask()).status).toBe(401);
  });

  test("that a token was revoked, and that one has expired", async () => {
    const { server, token, ask } = pushed;
    const short = await server.token({ main: ["pull"] }, { expiresAtMs: Date.now() + 100_000 });
    expect((await ask(short)).status).toBe(200);
    const revoked = await server.send("DELETE", "/_flywheel/v1/tokens/the-token", { token });
    expect(revoked.status).toBe(204);
    expect((await ask(token)).status).toBe(401);

    expect((await ask(short)).status).toBe(200);
    // Beyond what the clocks of two machines may differ by.
    server.advance(200_000);
    expect((await ask(short)).status).toBe(401);
  });

  test("that a view was destroyed, and that another has its name", async () => {
    const { server, token, ask } = pushed;
    const destroyed = await server.send("DELETE", "/_api/v1/cache-config/main", { token });
    expect(destroyed.status).toBe(200);
    expect((await ask(token)).status).toBe(404);

    await server.createView("main");
    expect((await ask(token)).status).toBe(404);
  });

  test("what another process wrote into the index", async () => {
    const { server, path, token, ask } = pushed;
    // A connection of its own is all that makes it another process for SQLite.
    await using other = await openSqliteIndex({ file: join(server.directory, "index.sqlite") });
    const view = await other.findView("main");
    await other.deletePath(view?.id ?? 0, path.storePathHash, 0);

    expect((await ask(token)).status).toBe(404);
  });
});

describe("index changes", () => {
  test("a version stands still without writes and never comes back after one", async () => {
    await using server = await startTestServer();
    using changes = openSqliteChanges(join(server.directory, "index.sqlite"));
    const versions = new Set<number>();
    for (let count = 0; count < 5; count += 1) {
      const version = changes.version();
      expect(changes.version()).toBe(version);
      versions.add(version);
      await server.createView(`view-${count}`);
    }
    expect(versions.size).toBe(5);
  });

  test("an index that cannot be asked is one that has changed", async () => {
    await using server = await startTestServer();
    const changes = openSqliteChanges(join(server.directory, "index.sqlite"));
    const versions = [changes.version()];
    changes[Symbol.dispose]();
    for (let count = 0; count < 2; count += 1) {
      await nextTurn();
      versions.push(changes.version());
    }
    expect(new Set(versions).size).toBe(3);
  });
});
