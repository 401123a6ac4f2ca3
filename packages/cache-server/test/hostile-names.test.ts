import { readdir } from "node:fs/promises";

import { expect, test } from "vitest";

import { startTestServer, type TestServer } from "./test-server.ts";

const HASH = "0".repeat(32);
const FILE = "0".repeat(52);

/** Every place of the Nix protocol's addresses that a client fills in. */
const PLACES: readonly ((name: string) => string)[] = [
  (name) => `/${name}/nix-cache-info`,
  (name) => `/${name}/${HASH}.narinfo`,
  (name) => `/main/${name}`,
  (name) => `/main/${name}.narinfo`,
  (name) => `/main/${name}.ls`,
  (name) => `/main/nar/${name}`,
  (name) => `/main/nar/${name}.nar`,
  (name) => `/main/nar/${FILE}.nar.${name}`,
  (name) => `/main/log/${name}/`,
  (name) => `/main/realisations/${name}.doi`,
  (name) => `/main/build-trace-v2/${name}/out.doi`,
  (name) => `/main/build-trace-v2/${HASH}-x.drv/${name}.doi`,
  (name) => `/main/debuginfo/${name}/`,
];

const NAMES: readonly string[] = [
  "..",
  ".",
  "%2e%2e",
  "%2E%2E%2F%2E%2E%2Fetc%2Fpasswd",
  "..%2f..%2f..%2fetc%2fpasswd",
  "%2fetc%2fpasswd",
  "../../../etc/passwd",
  "..%5c..%5cindex.sqlite",
  "..%2findex.sqlite",
  "%00",
  `${HASH}%00`,
  `${HASH}%2f..`,
  "%",
  "%zz",
  "%ff%fe",
  "%c0%ae%c0%ae",
  "%0d%0aset-cookie:%20x=1",
  "%f0%9f%8d%8d",
  "a b".replace(" ", "%20"),
  "x".repeat(256),
  "x".repeat(5000),
  "%41".repeat(4000),
];

async function listEverything(server: TestServer): Promise<string[]> {
  const names = await readdir(server.directory, { recursive: true });
  return names.filter((name) => !name.startsWith("index.sqlite")).toSorted();
}

test.each(NAMES)("no address takes the name %j, and nothing comes of it", async (name) => {
  await using server = await startTestServer();
  await server.createView("main");
  const token = await server.token({ "*": ["pull", "push"] });
  const before = await listEverything(server);

  for (const place of PLACES) {
    for (const method of ["GET", "HEAD", "PUT"]) {
      const path = place(name);
      const answer = await server.send(method, path, {
        token,
        ...(method === "PUT" ? { body: "contents" } : {}),
      });
      expect([method, path, Math.floor(answer.status / 100)]).toEqual([method, path, 4]);
      expect(answer.headers["set-cookie"]).toBeUndefined();
      expect(answer.text).not.toContain("root:");
      if (method !== "HEAD") expect(answer.json()["code"]).toBe(answer.status);
    }
  }

  expect(await listEverything(server)).toEqual(before);
  expect(server.logs.filter((line) => line.level === "error")).toEqual([]);
});

test.each(["log", "debuginfo"])(
  "%s: a name that is none is refused in reading and writing",
  async (kind) => {
    await using server = await startTestServer();
    await server.createView("main");
    const token = await server.token({ main: ["pull", "push"] });
    for (const name of [
      "..",
      ".",
      "%2e%2e",
      "a%2fb",
      "%00",
      "%ff",
      "a%20b",
      "x".repeat(256),
      "%c3%a4",
    ]) {
      for (const method of ["GET", "PUT"]) {
        const answer = await server.send(method, `/main/${kind}/${name}`, { token });
        expect([method, name, answer.status]).toEqual([method, name, 400]);
      }
    }
  },
);

test("a target longer than a head may be is refused before anything looks at it", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const token = await server.token({ main: ["pull", "push"] });
  const answer = await server.send("GET", `/main/${"x".repeat(20_000)}.narinfo`, { token });
  expect(answer.status).toBe(431);
});
