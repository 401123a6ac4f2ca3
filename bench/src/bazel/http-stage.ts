import { mkdirSync, writeFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { output } from "../command.ts";
import type { Tools } from "../tools.ts";
import { replay, type ReplayResult, type Target } from "./load/replay.ts";
import { type Expected, type Ring, RingBuilder } from "./load/ring.ts";
import { blobOf } from "./messages.ts";
import { type BlobKind, chooser, contentOf, type Hashes, sizeOf } from "./population.ts";
import type { Subject } from "./subjects.ts";

/** A server that serves blobs over HTTP/1.1, ours or static files. */
export interface HttpSubject {
  readonly name: string;
  readonly target: Target;
  /** What stands before `/cas/…`, and the token, of the even and the odd blobs. */
  readonly tenants: readonly [HttpTenant, HttpTenant];
}

interface HttpTenant {
  readonly prefix: string;
  readonly token: string | undefined;
}

const CONNECTIONS = 16;
const SCRIPT = fileURLToPath(new URL("blobs.lua", import.meta.url));

export function httpFaceOf({ name, target, tenants }: Subject): HttpSubject {
  const [first, second] = tenants.map(({ instance, token }) => ({ prefix: `/${instance}`, token }));
  if (first === undefined || second === undefined) throw new Error("two tenants are needed");
  return { name, target, tenants: [first, second] };
}

/** The blobs that a GET case asks for: all of one kind that are stored, both tenants in turn. */
export interface GetCase {
  readonly kind: Extract<BlobKind, "4 KiB" | "1 MiB">;
  readonly count: number;
  readonly hashes: Hashes;
}

/** Lays GETs; three in ten small ones ask for what is not there, and its answer is not 2xx. */
export function layGets(
  subject: HttpSubject,
  { kind, count, hashes }: GetCase,
  absent: Hashes,
  round = 0,
): Ring[] {
  const builders = makeBuilders();
  const choose = chooser("uniform", count, 1 + round);
  for (let call = 0; call < count; call += 1) {
    const isAbsent = kind === "4 KiB" && (Math.floor(call / 2) * 7) % 10 < 3;
    const id = choose(call % 2);
    const head = requestHead(subject, "GET", id, (isAbsent ? absent : hashes).of(id));
    const bytes = sizeOf(kind);
    builders[Math.floor(call / 2) % CONNECTIONS]?.addBytes(
      [Buffer.from(`${head}\r\n`)],
      isAbsent ? NOT_OK : { minBytes: bytes, maxBytes: bytes },
    );
  }
  return build(builders);
}

const NOT_OK: Expected = { minBytes: -1, maxBytes: -1 };

export interface HttpPlay {
  readonly measureMs: number;
  /** Rounds of other numbers ask for other keys first. */
  readonly round: number;
}

export async function playGets(
  subject: HttpSubject,
  getCase: GetCase,
  absent: Hashes,
  { measureMs, round }: HttpPlay,
): Promise<ReplayResult> {
  const rings = layGets(subject, getCase, absent, round);
  return await replay(subject.target, { protocol: "http1", rings, depth: 1, measureMs });
}

/** Uploads blobs that nobody stored before. */
export async function playPuts(
  subject: HttpSubject,
  kind: BlobKind,
  calls: number,
): Promise<ReplayResult> {
  const first = Date.now() * 1000;
  const builders = makeBuilders();
  for (let call = 0; call < calls; call += 1) {
    const { hash, content } = blobOf(kind, first + call);
    const head = `${requestHead(subject, "PUT", call, hash)}content-length: ${content.length}\r\n\r\n`;
    builders[Math.floor(call / 2) % CONNECTIONS]?.addBytes([Buffer.from(head), content], {
      minBytes: 0,
      maxBytes: Infinity,
    });
  }
  const rings = build(builders);
  return replay(subject.target, { protocol: "http1", rings, depth: 1, measureMs: undefined });
}

/** The same blobs with wrk, which knows 200 from others and counts them; all of them are there. */
export async function wrkGets(
  tools: Pick<Tools, "wrk" | "env">,
  subject: HttpSubject,
  { kind, count, hashes }: GetCase,
  options: { readonly seconds: number; readonly directory: string; readonly round: number },
): Promise<number> {
  const file = path.join(options.directory, "blobs.requests");
  const lines: string[] = [];
  const choose = chooser("uniform", count, 1 + options.round);
  for (let call = 0; call < count; call += 1) {
    const id = choose(call % 2);
    const { prefix, token } = tenantOf(subject, id);
    lines.push(`${prefix}/cas/${hashes.of(id)} ${token ?? "-"}`);
  }
  await writeFile(file, `${lines.join("\n")}\n`);
  const { host, port } = subject.target;
  const text = await output(
    tools.wrk,
    ["-t1", `-c${CONNECTIONS}`, `-d${options.seconds}s`, "-s", SCRIPT, `http://${host}:${port}`],
    { env: { ...tools.env, BENCH_REQUESTS: file } },
  );
  const match = /RESULT (\d+) (\d+) (\d+)/.exec(text);
  const [requests = 0, micros = 1, errors = 0] = (match ?? []).slice(1).map(Number);
  if (match === null || errors > 0) {
    throw new Error(`wrk, ${kind} of ${subject.name}: ${text.slice(-600)}`);
  }
  return requests / (micros / 1e6);
}

/** The blobs as files, where nginx finds them under `/cas/`. */
export function writeStaticBlobs(root: string, { kind, count, hashes }: GetCase): void {
  mkdirSync(path.join(root, "cas"), { recursive: true });
  writeFileSync(path.join(root, "nix-cache-info"), "");
  for (let id = 0; id < count; id += 1) {
    writeFileSync(path.join(root, "cas", hashes.of(id)), contentOf(kind, id));
  }
}

function requestHead(subject: HttpSubject, method: string, id: number, hash: string): string {
  const { prefix, token } = tenantOf(subject, id);
  const authorization = token === undefined ? "" : `authorization: Bearer ${token}\r\n`;
  return `${method} ${prefix}/cas/${hash} HTTP/1.1\r\nhost: 127.0.0.1\r\n${authorization}`;
}

function tenantOf(subject: HttpSubject, id: number): HttpTenant {
  return subject.tenants[id % 2 === 0 ? 0 : 1];
}

function makeBuilders(): RingBuilder[] {
  return Array.from({ length: CONNECTIONS }, () => new RingBuilder());
}

function build(builders: readonly RingBuilder[]): Ring[] {
  return builders.filter(({ sizeBytes }) => sizeBytes > 0).map((each) => each.build());
}
