import { createHash } from "node:crypto";

import { create, toBinary } from "@bufbuild/protobuf";
import { ActionResultSchema } from "@glorious/reapi";

import type { Random } from "../../random.ts";
import type { BazelEntry, BazelHistory } from "../history/bazel-history.ts";
import type { Target } from "./clients.ts";

/** Smaller ones come to lie in packs, larger ones in files. */
const MAX_SMALL_BYTES = 4000;
/** What is shorter may be drawn twice. */
const MIN_BYTES = 16;
const LARGE_BYTES = [33 * 1024, 80 * 1024] as const;
const VALUES_PER_STEP = 6;

/** Several clients that store what a build stores, and values, and delete values again. */
export async function runBazelTraffic(options: {
  readonly random: Random;
  readonly history: BazelHistory;
  readonly target: Target;
  readonly clients: number;
  /** Of each client. */
  readonly steps: number;
}): Promise<void> {
  const { history, target } = options;

  const build = async (random: Random): Promise<void> => {
    const blobs = Array.from({ length: 1 + random.below(4) }, () =>
      createBlob(random, drawSize(random)),
    );
    await Promise.all(blobs.map((blob) => putEntry(target, blob, history)));
    await putEntry(target, createAction(random, blobs), history);
  };

  const run = async (client: number): Promise<void> => {
    const random = options.random.fork(`client ${client}`);
    const values: BazelEntry[] = [];
    for (let step = 0; step < options.steps; step += 1) {
      if (step % 3 === 0) await build(random);
      else if (step % 3 === 1) {
        const some = Array.from({ length: VALUES_PER_STEP }, () => createValue(random));
        await Promise.all(some.map((value) => putEntry(target, value, history)));
        values.push(...some);
      } else {
        // Nearly all of them: packs that held little else are then written anew, or go.
        const doomed = values.splice(0, values.length - (step % 2));
        await Promise.all(doomed.map((value) => deleteEntry(target, value, history)));
      }
    }
  };

  await Promise.all(Array.from({ length: options.clients }, (_, client) => run(client)));
}

/** An entry's bytes as the server gives them; `undefined` when it is absent. @throws {Error} on any other answer. */
export async function getEntry(target: Target, { path }: BazelEntry): Promise<Buffer | undefined> {
  const response = await send(target, "GET", path);
  const body = Buffer.from(await response.arrayBuffer());
  if (response.status === 404) return undefined;
  if (response.status !== 200) throw new Error(`GET ${path} got ${response.status}`);
  return body;
}

/** Stores an entry. @throws {Error} when it is refused. */
export async function putEntry(
  target: Target,
  entry: BazelEntry,
  history: BazelHistory,
): Promise<void> {
  await history.record("put", entry, () => change(target, "PUT", entry));
}

async function deleteEntry(
  target: Target,
  entry: BazelEntry,
  history: BazelHistory,
): Promise<void> {
  await history.record("delete", entry, () => change(target, "DELETE", entry));
}

async function change(target: Target, method: "PUT" | "DELETE", entry: BazelEntry): Promise<void> {
  const body = method === "PUT" ? entry.bytes : undefined;
  const response = await send(target, method, entry.path, body);
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${entry.path} got ${response.status}: ${text}`);
}

function send({ url, view, token }: Target, method: string, path: string, bytes?: Buffer) {
  return fetch(new URL(`${view}/${path}`, `${url}/`), {
    method,
    headers: { authorization: `Bearer ${token}` },
    ...(bytes === undefined ? {} : { body: new Uint8Array(bytes) }),
  });
}

function drawSize(random: Random): number {
  const [least, most] = random.chance(0.3) ? LARGE_BYTES : [MIN_BYTES, MAX_SMALL_BYTES];
  return least + random.below(most - least);
}

/** A blob like no other. */
export function createBlob(random: Random, sizeBytes: number): BazelEntry {
  const bytes = random.bytes(sizeBytes);
  return { kind: "blob", path: `cas/${sha256(bytes)}`, bytes, needs: [] };
}

function createValue(random: Random): BazelEntry {
  const bytes = random.bytes(1 + random.below(MAX_SMALL_BYTES));
  return { kind: "value", path: `kv/${random.bytes(12).toString("hex")}`, bytes, needs: [] };
}

function createAction(random: Random, needs: readonly BazelEntry[]): BazelEntry {
  const result = create(ActionResultSchema, {
    outputFiles: needs.map(({ bytes }, at) => ({
      path: `out/${at}`,
      digest: { hash: sha256(bytes), sizeBytes: BigInt(bytes.length) },
    })),
    executionMetadata: { worker: "faults" },
  });
  const bytes = Buffer.from(toBinary(ActionResultSchema, result));
  return { kind: "action", path: `ac/${random.bytes(32).toString("hex")}`, bytes, needs };
}

function sha256(bytes: Buffer): string {
  return createHash("sha256").update(bytes).digest("hex");
}
