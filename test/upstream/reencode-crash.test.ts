import { createHash, randomBytes } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { buffer } from "node:stream/consumers";
import { gunzipSync, gzipSync, zstdDecompressSync } from "node:zlib";

import {
  encodeNix32,
  formatNarInfo,
  formatPublicKey,
  generateSecretKey,
  narInfoFingerprint,
  type NarInfo,
  parseHash,
  parseNarInfo,
  sha256HexToNix32,
  signFingerprint,
  toPublicKey,
  writeNar,
} from "@glorious/nix-store";
import { createTemporaryDirectory, type RunningFlywheel, startFlywheel } from "@glorious/testkit";
import { expect, test, vi } from "vitest";

import { startStaticCache } from "./static-cache.ts";

const NARS = 8;
/** Long enough to encode that a kill comes in the middle. */
const NAR_BYTES = 12_000_000;
const key = generateSecretKey("upstream.example.org-1");

interface Fetched {
  readonly hash: string;
  readonly nar: Buffer;
}

/** Writes a path in gzip, as a static cache has it. */
async function publish(folder: string, number: number): Promise<Fetched> {
  const contents = Buffer.from(randomBytes((NAR_BYTES * 3) / 4).toString("base64"));
  const sizeBytes = contents.length;
  const file = { path: [], executable: false, sizeBytes, contents: [contents] };
  const nar = await buffer(writeNar([{ type: "regular", ...file }]));
  const hash = encodeNix32(Buffer.alloc(20, number + 1));
  const packed = gzipSync(nar, { level: 1 });
  const fileHash = sha256(packed);
  const said = {
    storePath: `/nix/store/${hash}-nar-${number}`,
    narHash: parseHash(sha256(nar), "sha256"),
    narSize: nar.length,
    references: [],
  };
  const info: NarInfo = {
    ...said,
    url: `nar/${sha256HexToNix32(fileHash)}.nar.gz`,
    compression: "gzip",
    fileHash: parseHash(fileHash, "sha256"),
    fileSize: packed.length,
    signatures: [signFingerprint(key, narInfoFingerprint(said))],
  };
  await writeFile(path.join(folder, info.url), packed);
  await writeFile(path.join(folder, `${hash}.narinfo`), formatNarInfo(info));
  return { hash, nar };
}

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

async function request(server: RunningFlywheel, name: string): Promise<Response> {
  const headers = { authorization: `Bearer ${await server.readToken()}` };
  return fetch(`${server.substituter}/${name}`, { headers });
}

async function narInfoOf(server: RunningFlywheel, { hash }: Fetched): Promise<NarInfo> {
  return parseNarInfo(await (await request(server, `${hash}.narinfo`)).text());
}

/** What a narinfo names, decoded as it says; `undefined` when that is not there. */
async function narOf(server: RunningFlywheel, info: NarInfo): Promise<Buffer | undefined> {
  const answer = await request(server, info.url);
  const bytes = Buffer.from(await answer.arrayBuffer());
  if (answer.status === 404) return undefined;
  expect(answer.status).toBe(200);
  return info.compression === "gzip" ? gunzipSync(bytes) : zstdDecompressSync(bytes);
}

test("a server that is killed while it encodes what it fetched serves all of it, and ends it later", async () => {
  await using directory = await createTemporaryDirectory("flywheel-reencode-");
  const folder = path.join(directory.path, "cache");
  await mkdir(path.join(folder, "nar"), { recursive: true });
  const paths: Fetched[] = [];
  for (let number = 0; number < NARS; number += 1) paths.push(await publish(folder, number));
  await using upstream = await startStaticCache(folder);
  const dataDirectory = path.join(directory.path, "data");
  const start = (): Promise<RunningFlywheel> => startFlywheel({ dataDirectory });

  const before = new Map<string, NarInfo>();
  {
    await using server = await start();
    const admin = async (method: string, name: string, body: object): Promise<void> => {
      const answer = await fetch(`${server.url}/_flywheel/v1/${name}`, {
        method,
        headers: {
          authorization: `Bearer ${await server.readToken()}`,
          "content-type": "application/json",
        },
        body: JSON.stringify(body),
      });
      expect(answer.ok).toBe(true);
    };
    await admin("POST", "upstreams", {
      name: "static",
      url: `http://127.0.0.1:${upstream.port}/`,
      publicKeys: [formatPublicKey(toPublicKey(key))],
    });
    await admin("PUT", `views/${server.view}/upstreams`, { upstreams: ["static"] });
    for (const each of paths) {
      const info = await narInfoOf(server, each);
      before.set(each.hash, info);
      expect((await narOf(server, info))?.equals(each.nar)).toBe(true);
    }
    const inZstd = async (): Promise<number> => {
      const infos = await Promise.all(paths.map((each) => narInfoOf(server, each)));
      return infos.filter(({ compression }) => compression === "zstd").length;
    };
    await vi.waitFor(async () => expect(await inZstd()).toBeGreaterThan(0), {
      timeout: 60_000,
      interval: 20,
    });
    server.kill("SIGKILL");
    await server.exited;
  }

  await using server = await start();
  for (const each of paths) {
    const info = await narInfoOf(server, each);
    expect((await narOf(server, info))?.equals(each.nar)).toBe(true);
    const old = before.get(each.hash);
    const oldNar = old && (await narOf(server, old));
    expect(oldNar?.equals(each.nar) ?? true).toBe(true);
  }
  await vi.waitFor(
    async () => {
      for (const each of paths) {
        const info = await narInfoOf(server, each);
        expect(info.compression).toBe("zstd");
        expect((await narOf(server, info))?.equals(each.nar)).toBe(true);
      }
    },
    { timeout: 60_000, interval: 200 },
  );
  // All of it from what was kept: nothing was fetched a second time.
  const asked = upstream.requests.filter((each) => each.path.startsWith("/nar/"));
  expect(asked).toHaveLength(NARS);
});
