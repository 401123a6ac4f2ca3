import { encodeNarParts, NAR_ENCODING, parseNarInfo } from "@glorious/nix-store";
import { expect, test } from "vitest";

import { createTestPath, type TestPath } from "./test-path.ts";
import { sha256, startTestServer, type TestAnswer, type TestServer } from "./test-server.ts";
import { closurePath, encode, inPieces, postJson, putNar } from "./uploads.ts";

const PART_BYTES = NAR_ENCODING.frameBytes;
const BASE = "/_flywheel/v1/views/main/uploads";

/** 20 MiB, no two lines alike: three parts of 8, 8 and 4 MiB. */
const LARGE = await createTestPath(
  "large",
  Array.from({ length: (20 * 2 ** 20) / 64 }, (_, line) => `${line}`.padEnd(63) + "\n").join(""),
);
const PARTS = await encodeParts(LARGE);

async function encodeParts({ nar }: TestPath): Promise<Buffer[]> {
  const parts = { narSize: nar.length, partBytes: PART_BYTES };
  const encoded = encodeNarParts(inPieces(nar, 2 ** 20), parts, { isWanted: () => true });
  return (await Array.fromAsync(encoded)).map(({ pieces }) => Buffer.concat(pieces));
}

interface Bench extends AsyncDisposable {
  readonly server: TestServer;
  readonly token: string;
}

async function startBench(...given: Parameters<typeof startTestServer>): Promise<Bench> {
  const server = await startTestServer(...given);
  await server.createView("main");
  const token = await server.token({ main: ["push", "pull"], other: ["push"] });
  return { server, token, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
}

function begin(
  { server, token }: Bench,
  changes: Readonly<Record<string, unknown>> = {},
  view = "main",
): Promise<TestAnswer> {
  const { narHash, nar } = LARGE;
  const body = { narHash, narSize: nar.length, partBytes: PART_BYTES, ...changes };
  return postJson(server, token, `/_flywheel/v1/views/${view}/uploads`, body);
}

async function beginId(bench: Bench): Promise<string> {
  return String((await begin(bench)).json()["id"]);
}

function putPart(
  { server, token }: Bench,
  id: string,
  number: number | string,
  body: Uint8Array,
  hash: string = sha256(body),
): Promise<TestAnswer> {
  return server.send("PUT", `${BASE}/${id}/parts/${number}`, {
    token,
    headers: { "x-flywheel-sha256": hash },
    body,
  });
}

async function putAll(bench: Bench, id: string): Promise<void> {
  for (const [number, bytes] of PARTS.entries()) {
    expect((await putPart(bench, id, number, bytes)).status).toBe(200);
  }
}

const complete = ({ server, token }: Bench, id: string): Promise<TestAnswer> =>
  server.send("POST", `${BASE}/${id}/complete`, { token });

async function storedParts({ server }: Bench): Promise<number> {
  return (await Array.fromAsync(server.store.list("part/"))).length;
}

test("parts in any order become the one object that the whole NAR would have been, and are gone", async () => {
  await using bench = await startBench();
  const { server, token } = bench;
  const id = await beginId(bench);
  for (const number of [2, 0, 1]) {
    const bytes = PARTS[number] as Buffer;
    const answer = await putPart(bench, id, number, bytes);
    expect(answer.json()).toEqual({ number, sizeBytes: bytes.length, sha256: sha256(bytes) });
  }
  const whole = await encode(LARGE);

  const answer = await complete(bench, id);

  expect(answer.status).toBe(200);
  expect(answer.json()).toEqual({
    kind: "Uploaded",
    narHash: LARGE.narHash,
    narSize: LARGE.nar.length,
    fileHash: sha256(whole),
    fileSize: whole.length,
  });
  expect(await storedParts(bench)).toBe(0);
  const closure = { paths: [closurePath(LARGE)] };
  const committed = await postJson(server, token, "/_flywheel/v1/views/main/closures", closure);
  expect(committed.json()).toMatchObject({ created: [LARGE.storePathHash] });
  const narInfo = await server.send("GET", `/main/${LARGE.storePathHash}.narinfo`, { token });
  const nar = await server.send("GET", `/main/${parseNarInfo(narInfo.text).url}`, { token });
  expect(nar.body.equals(whole)).toBe(true);
});

test("an upload that is begun again goes on with the parts that are there", async () => {
  await using bench = await startBench();
  const first = (await begin(bench)).json();
  expect(first).toMatchObject({ partBytes: PART_BYTES, parts: [] });
  await putPart(bench, String(first["id"]), 1, PARTS[1] as Buffer);

  expect((await begin(bench)).json()).toEqual({ ...first, parts: [1] });
});

test("an upload keeps the level it was begun at, whatever the view's is by then", async () => {
  await using bench = await startBench();
  const first = (await begin(bench)).json();
  expect(first).toMatchObject({ level: 3 });

  await bench.server.index.updateView("main", { compressionLevel: 9 });

  expect((await begin(bench)).json()).toEqual(first);
  const other = { narHash: sha256(Buffer.from("another")) };
  expect((await begin(bench, other)).json()).toMatchObject({ level: 9 });
});

test("a part whose bytes were lost from the store is asked for again", async () => {
  await using bench = await startBench();
  const id = await beginId(bench);
  await putAll(bench, id);
  for await (const { key } of bench.server.store.list("part/")) {
    if (key.includes("-1-")) await bench.server.store.delete(key);
  }

  expect((await begin(bench)).json()).toMatchObject({ id, parts: [0, 2] });
  expect((await complete(bench, id)).json()).toMatchObject({ missingParts: [1] });
  await putPart(bench, id, 1, PARTS[1] as Buffer);
  expect((await complete(bench, id)).status).toBe(200);
});

test("completing an upload that lacks parts is refused and names them", async () => {
  await using bench = await startBench();
  const id = await beginId(bench);
  await putPart(bench, id, 1, PARTS[1] as Buffer);

  const answer = await complete(bench, id);

  expect(answer.status).toBe(409);
  expect(answer.json()).toMatchObject({ code: 409, error: "CONFLICT", missingParts: [0, 2] });
  expect(await storedParts(bench)).toBe(1);
});

test("a part that is not what its hash says leaves nothing behind", async () => {
  await using bench = await startBench();
  const id = await beginId(bench);

  const wrong = await putPart(bench, id, 0, PARTS[0] as Buffer, sha256(PARTS[1] as Buffer));
  const none = await putPart(bench, id, 0, PARTS[0] as Buffer, "");

  expect([wrong.status, wrong.json()["error"]]).toEqual([422, "CORRUPT"]);
  expect([none.status, none.json()["error"]]).toEqual([400, "INVALID"]);
  expect(await storedParts(bench)).toBe(0);
  expect((await begin(bench)).json()).toMatchObject({ parts: [] });
});

test("the same part twice is one part, and another in its place is refused", async () => {
  await using bench = await startBench();
  const id = await beginId(bench);
  await putPart(bench, id, 0, PARTS[0] as Buffer);

  expect((await putPart(bench, id, 0, PARTS[0] as Buffer)).status).toBe(200);
  const other = await putPart(bench, id, 0, PARTS[2] as Buffer);

  expect([other.status, other.json()["error"]]).toEqual([409, "CONFLICT"]);
  expect(await storedParts(bench)).toBe(1);
  await putAll(bench, id);
  expect((await complete(bench, id)).status).toBe(200);
});

test("numbers that no part has, and parts that are too large, are refused", async () => {
  await using bench = await startBench();
  const id = await beginId(bench);
  for (const number of [3, "-1", "x", "1e1", "99999999999999999999"]) {
    const answer = await putPart(bench, id, number, Buffer.from("x"));
    expect([number, answer.status]).toEqual([number, 400]);
  }
  const large = await putPart(bench, id, 2, Buffer.alloc(5 * 2 ** 20));
  expect([large.status, large.json()["error"]]).toEqual([413, "TOO_LARGE"]);
  expect(await storedParts(bench)).toBe(0);
});

test("sizes that no upload can have are refused before anything is opened", async () => {
  await using bench = await startBench({ maxNarSizeBytes: "1 GiB" });
  const status = async (changes: Readonly<Record<string, unknown>>): Promise<number> =>
    (await begin(bench, changes)).status;

  expect(await status({ partBytes: PART_BYTES + 1 })).toBe(400);
  expect(await status({ partBytes: 512 * 2 ** 20 })).toBe(400);
  expect(await status({ narSize: 2 ** 31 })).toBe(413);
  expect(await status({ narSize: 0 })).toBe(400);
  expect(await status({ narHash: "nonsense" })).toBe(400);
});

test("parts that are not the NAR end the upload, and the next one starts from nothing", async () => {
  await using bench = await startBench();
  const id = await beginId(bench);
  await putPart(bench, id, 0, PARTS[1] as Buffer);
  await putPart(bench, id, 1, PARTS[0] as Buffer);
  await putPart(bench, id, 2, PARTS[2] as Buffer);

  const answer = await complete(bench, id);

  expect([answer.status, answer.json()["error"]]).toEqual([422, "CORRUPT"]);
  expect(await storedParts(bench)).toBe(0);
  expect((await complete(bench, id)).status).toBe(404);
  expect((await begin(bench)).json()).toMatchObject({ parts: [] });
  const missing = { paths: [{ storePathHash: LARGE.storePathHash, narHash: LARGE.narHash }] };
  const { server, token } = bench;
  const found = await postJson(server, token, "/_flywheel/v1/views/main/missing", missing);
  expect(found.json()).toMatchObject({ missingNars: [LARGE.narHash] });
});

test("a NAR that the view holds need not be sent, and what was left of its upload goes", async () => {
  await using bench = await startBench();
  const id = await beginId(bench);
  await putPart(bench, id, 0, PARTS[0] as Buffer);
  const { server, token } = bench;
  const whole = await encode(LARGE);
  await putNar(server, token, "main", LARGE, whole);

  const answer = await begin(bench);

  expect(answer.json()).toMatchObject({ kind: "Deduplicated", fileHash: sha256(whole) });
  expect(await storedParts(bench)).toBe(0);
});

test("another tenant's upload, an absent one and an ended one are answered alike", async () => {
  await using bench = await startBench();
  const { server } = bench;
  await server.createView("other");
  const id = await beginId(bench);
  await putPart(bench, id, 0, PARTS[0] as Buffer);
  const stranger = { ...bench, token: await server.token({ other: ["push"] }) };
  const answersOf = async (other: string): Promise<unknown[]> => {
    const uploads = `/_flywheel/v1/views/other/uploads/${other}`;
    const { token } = stranger;
    const headers = { "x-flywheel-sha256": sha256(Buffer.from("x")) };
    const answers = [
      await server.send("PUT", `${uploads}/parts/0`, { token, headers, body: "x" }),
      await server.send("POST", `${uploads}/complete`, { token }),
      await server.send("DELETE", uploads, { token }),
    ];
    return answers.map((answer) => {
      const { requestId: _, ...said } = answer.json();
      return JSON.stringify([answer.status, said]).replaceAll(other, "<id>");
    });
  };
  const absent = "0".repeat(32);

  const answers = await answersOf(id);

  expect(answers).toEqual(await answersOf(absent));
  expect(answers.every((answer) => String(answer).startsWith("[404,"))).toBe(true);
  expect(await storedParts(bench)).toBe(1);
  // Into the view itself a stranger gets as far as into a view that does not exist.
  expect((await begin(stranger)).status).toBe((await begin(stranger, {}, "absent")).status);
  expect((await server.send("DELETE", `${BASE}/${id}`, { token: bench.token })).status).toBe(204);
  expect(await storedParts(bench)).toBe(0);
  expect((await complete(bench, id)).status).toBe(404);
});

test("only those who may push into a view may upload parts", async () => {
  await using bench = await startBench();
  const { server } = bench;
  const id = await beginId(bench);
  const reader = { ...bench, token: await server.token({ main: ["pull"] }) };

  expect((await begin(reader)).status).toBe(403);
  expect((await putPart(reader, id, 0, PARTS[0] as Buffer)).status).toBe(403);
  expect((await complete(reader, id)).status).toBe(403);
  expect((await server.send("DELETE", `${BASE}/${id}`, reader)).status).toBe(403);
});

test("an expired upload is gone, and the sweep takes its parts and those that no upload knows", async () => {
  await using bench = await startBench({ pendingNarMaxAgeMs: "1h", sweepIntervalMs: "50ms" });
  const { server } = bench;
  const id = await beginId(bench);
  await putPart(bench, id, 0, PARTS[0] as Buffer);
  await server.store.put(inPieces(Buffer.from("orphan")), {
    key: `part/1-${"a".repeat(32)}-0-${sha256(Buffer.from("orphan"))}`,
  });
  await expect.poll(() => storedParts(bench)).toBe(1);

  server.advance(3_600_000);
  const token = await server.token({ main: ["push"] });

  expect((await complete({ ...bench, token }, id)).status).toBe(404);
  expect((await putPart({ ...bench, token }, id, 1, PARTS[1] as Buffer)).status).toBe(404);
  await expect.poll(() => storedParts(bench)).toBe(0);
});

test("a view has so many open uploads, of so many bytes, and no more", async () => {
  await using bench = await startBench({ maxPartUploads: "2", maxPartUploadNarBytes: "1 GiB" });
  const start = (seed: string, narSize: number): Promise<TestAnswer> =>
    begin(bench, { narHash: sha256(Buffer.from(seed)), narSize });

  expect((await start("a", 2 ** 29)).status).toBe(200);
  const large = await start("b", 2 ** 29 + 1);
  expect([large.status, large.json()["error"]]).toEqual([409, "CONFLICT"]);
  expect((await start("b", 2 ** 20)).status).toBe(200);
  expect((await start("c", 2 ** 20)).status).toBe(409);
  // Those that are open can be found still.
  expect((await start("a", 2 ** 29)).status).toBe(200);
});

test("a completion that takes long goes on by itself, and is asked for again", async () => {
  await using bench = await startBench({}, { timings: { maxCompletionWaitMs: 0 } });
  const id = await beginId(bench);
  await putAll(bench, id);

  const first = await complete(bench, id);

  expect([first.status, first.json()]).toEqual([202, { state: "running" }]);
  const refused = await bench.server.send("DELETE", `${BASE}/${id}`, bench);
  expect(refused.status).toBe(409);
  await expect.poll(async () => (await complete(bench, id)).status).toBe(404);
  expect((await begin(bench)).json()).toMatchObject({ kind: "Deduplicated" });
});
