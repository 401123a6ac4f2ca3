import { expect, test } from "vitest";

import { atticNarInfo, createTestPath, type TestPath } from "./test-path.ts";
import { startTestServer, type TestAnswer, type TestServer } from "./test-server.ts";

async function* chunked(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let offset = 0; offset < bytes.length; offset += 50)
    yield bytes.subarray(offset, offset + 50);
}

function uploadByHeader(
  server: TestServer,
  token: string,
  cache: string,
  path: TestPath,
  changes: Readonly<Record<string, unknown>> = {},
): Promise<TestAnswer> {
  return server.send("PUT", "/_api/v1/upload-path", {
    token,
    headers: { "x-attic-nar-info": atticNarInfo(cache, path, changes) },
    body: chunked(path.nar),
  });
}

test("an upload with its info in the header is stored, signed and served", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const token = await server.token({ main: ["pull", "push"] });
  const path = await createTestPath("hello");

  const put = await uploadByHeader(server, token, "main", path);

  expect(put.status).toBe(200);
  expect(put.json()).toEqual({
    kind: "Uploaded",
    file_size: expect.any(Number),
    frac_deduplicated: null,
  });
  const narInfo = await server.send("GET", `/main/${path.storePathHash}.narinfo`, { token });
  expect(narInfo.status).toBe(200);
  expect(narInfo.headers["content-type"]).toBe("text/x-nix-narinfo");
  expect(narInfo.text).toMatch(
    new RegExp(
      `^StorePath: ${path.storePath}\nURL: nar/[0-9a-z]{52}\\.nar\\.zst\nCompression: zstd\n` +
        "FileHash: sha256:[0-9a-z]{52}\nFileSize: \\d+\nNarHash: sha256:[0-9a-z]{52}\n" +
        `NarSize: ${path.nar.length}\nReferences: \nSig: main-[0-9a-f]{8}:[A-Za-z0-9+/=]{88}\n$`,
    ),
  );
});
