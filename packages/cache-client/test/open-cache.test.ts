import { createServer } from "node:net";

import { expect, test } from "vitest";

import { openCache, type PushEvent } from "../src/index.ts";
import { sendJson, startWire } from "./wire.ts";

const QUICK = { baseDelayMs: 1, maxDelayMs: 2 };

test("one request tells that a server is an atticd, and all about the view", async () => {
  await using wire = await startWire((request, response) =>
    sendJson(response, 200, {
      substituter_endpoint: `http://${request.headers.host}/main`,
      api_endpoint: `http://${request.headers.host}/`,
      public_key: "main:AAAA",
      is_public: true,
      store_dir: "/nix/store",
      priority: 41,
      upstream_cache_key_names: ["cache.nixos.org-1"],
      retention_period: { Period: 604800 },
    }),
  );
  await using cache = await openCache({ server: wire.url, view: "main" });
  expect(wire.log).toEqual(["GET /_api/v1/cache-config/main"]);
  expect(cache).toMatchObject({
    kind: "attic",
    server: `${wire.url}/`,
    view: "main",
    config: {
      substituterEndpoint: `${wire.url}/main`,
      publicKey: "main:AAAA",
      isPublic: true,
      priority: 41,
      retentionPeriod: { seconds: 604800 },
    },
  });
});

test("an atticd's own address for its API is followed", async () => {
  await using api = await startWire(async (request, response) =>
    sendJson(response, 200, { missing_paths: [], authorization: request.headers.authorization }),
  );
  await using wire = await startWire((_, response) =>
    sendJson(response, 200, { api_endpoint: `${api.url}/below` }),
  );
  await using cache = await openCache({ server: wire.url, view: "main", token: "t" });
  expect(cache.server).toBe(`${api.url}/below/`);
});

test("a path prefix is kept with and without its trailing slash, and the plus of a view as it is", async () => {
  await using wire = await startWire((_, response) => sendJson(response, 200, {}));
  for (const server of [`${wire.url}/cache`, `${wire.url}/cache/`]) {
    await using _ = await openCache({ server, view: "acme+main" });
  }
  expect(wire.log).toEqual(Array(2).fill("GET /cache/_api/v1/cache-config/acme+main"));
});

test("the token goes out as a bearer token", async () => {
  let authorization: string | undefined;
  await using wire = await startWire((request, response) => {
    ({ authorization } = request.headers);
    sendJson(response, 200, {});
  });
  await using _ = await openCache({ server: wire.url, view: "main", token: "abc" });
  expect(authorization).toBe("Bearer abc");
});

test.each([
  [401, "UNAUTHENTICATED"],
  [403, "FORBIDDEN"],
  [404, "NOT_FOUND"],
])("a %d is %s, once", async (status, code) => {
  await using wire = await startWire((_, response) =>
    sendJson(response, status, { code: status, error: "X", message: "no" }),
  );
  await expect(openCache({ server: wire.url, view: "main" })).rejects.toMatchObject({ code });
  expect(wire.log).toHaveLength(1);
});

test.each([
  ["a web page", "<html>hello</html>"],
  ["JSON of another kind", '"hello"'],
  ["a body that was cut", '{"is_public": tr'],
])("%s in place of a configuration is UNSUPPORTED", async (_, body) => {
  await using wire = await startWire((__, response) => response.writeHead(200).end(body));
  await expect(openCache({ server: wire.url, view: "main" })).rejects.toMatchObject({
    code: "UNSUPPORTED",
    hint: expect.stringContaining("address"),
  });
});

test("a server of ours from the future is UNSUPPORTED and says to upgrade", async () => {
  await using wire = await startWire((_, response) =>
    sendJson(response, 200, { flywheel: { version: 9, api: "http://x/" } }),
  );
  await expect(openCache({ server: wire.url, view: "main" })).rejects.toMatchObject({
    code: "UNSUPPORTED",
    hint: expect.stringContaining("Upgrade"),
  });
});

test("a server of ours advises how many uploads to run at once", async () => {
  await using wire = await startWire((request, response) =>
    sendJson(response, 200, {
      flywheel: {
        version: 1,
        api: `http://${request.headers.host}/_flywheel/v1/`,
        server: "1.2.3",
        maxConcurrentUploads: 3,
      },
    }),
  );
  await using cache = await openCache({ server: wire.url, view: "main" });
  expect(cache).toMatchObject({
    kind: "flywheel",
    config: { flywheel: { serverVersion: "1.2.3", maxConcurrentUploads: 3 } },
  });
});

test("a server that is still starting is asked again", async () => {
  let requests = 0;
  await using wire = await startWire((_, response) => {
    requests += 1;
    if (requests < 3) response.writeHead(503).end();
    else sendJson(response, 200, {});
  });
  const events: PushEvent[] = [];
  await using cache = await openCache({
    server: wire.url,
    view: "main",
    retry: QUICK,
    onEvent: (event) => events.push(event),
  });
  expect(cache.kind).toBe("attic");
  expect(events.map(({ type }) => type)).toEqual(["retry", "retry"]);
});

test("an answer that breaks off is a network failure", async () => {
  await using wire = await startWire((_, response) => {
    response.writeHead(200, { "content-length": "1000" });
    response.write("{", () => response.socket?.destroy());
  });
  await expect(
    openCache({ server: wire.url, view: "main", retry: { ...QUICK, maxAttempts: 2 } }),
  ).rejects.toMatchObject({ code: "UNAVAILABLE" });
  expect(wire.log).toHaveLength(2);
});

test("nothing listening is UNAVAILABLE and names the address", async () => {
  const server = createServer();
  const listening = Promise.withResolvers<void>();
  server.listen(0, "127.0.0.1", listening.resolve);
  await listening.promise;
  const address = server.address();
  const port = typeof address === "object" ? address?.port : undefined;
  const closed = Promise.withResolvers<void>();
  server.close(() => closed.resolve());
  await closed.promise;
  await expect(
    openCache({ server: `http://127.0.0.1:${port}`, view: "main", retry: QUICK }),
  ).rejects.toMatchObject({
    code: "UNAVAILABLE",
    message: `GET http://127.0.0.1:${port}/_api/v1/cache-config/main failed: nothing listens there`,
  });
});

test("a server that never answers is given up after the idle deadline", async () => {
  await using wire = await startWire(() => {});
  await expect(
    openCache({ server: wire.url, view: "main", idleTimeoutMs: 100, retry: { maxAttempts: 1 } }),
  ).rejects.toMatchObject({ code: "TIMEOUT" });
});

test("a server that keeps sending is waited for, however long it takes in all", async () => {
  await using wire = await startWire(async (_, response) => {
    response.writeHead(200);
    for (const piece of ['{"is_', "pub", 'lic":', "true", "}"]) {
      response.write(piece);
      await new Promise((resolve) => setTimeout(resolve, 120));
    }
    response.end();
  });
  await using cache = await openCache({ server: wire.url, view: "main", idleTimeoutMs: 400 });
  expect(cache.config.isPublic).toBe(true);
});

test("a redirect is not followed with the token but told", async () => {
  await using wire = await startWire((_, response) =>
    response.writeHead(301, { location: "https://elsewhere.example/" }).end(),
  );
  await expect(openCache({ server: wire.url, view: "main", token: "t" })).rejects.toMatchObject({
    message: expect.stringContaining("redirects to https://elsewhere.example/"),
  });
});

test("a signal stops the discovery with CANCELLED", async () => {
  const controller = new AbortController();
  await using wire = await startWire(() => controller.abort());
  await expect(
    openCache({ server: wire.url, view: "main", signal: controller.signal }),
  ).rejects.toMatchObject({ code: "CANCELLED" });
});
