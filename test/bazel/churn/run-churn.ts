import { setTimeout as sleep } from "node:timers/promises";

import { type BlobDigest, digestOf } from "@glorious/reapi";
import { status } from "@grpc/grpc-js";

import type { Random } from "../../random.ts";
import type { Ledger } from "./ledger.ts";
import type { RemoteCache } from "./remote-cache.ts";

/** One instance name, with who uses it. */
export interface ChurnScope {
  readonly instance: string;
  readonly tenant: string;
  readonly cache: RemoteCache;
  /** Of another tenant, with nothing to look for here. */
  readonly stranger: RemoteCache;
}

/** What a run came to. */
export interface ChurnFigures {
  builds: number;
  hits: number;
  misses: number;
  /** Misses of what had been there and was evicted. */
  evicted: number;
  uploads: number;
  uploadedBytes: number;
  reads: number;
  /** Uploads refused because everything was too fresh to go. */
  refused: number;
  /** Answers that the death of the server cut off. */
  unknown: number;
  strangersRefused: number;
  readonly violations: string[];
}

export interface ChurnOptions {
  readonly scopes: readonly ChurnScope[];
  readonly clients: number;
  readonly random: Random;
  readonly ledger: Ledger;
  readonly nowMs: () => number;
  readonly endsAtMs: number;
  /** New actions in an hour of a scope. */
  readonly actionsPerHour: number;
  /** Rest of a client between two builds, in real milliseconds. */
  readonly restMs: number;
}

const HOUR_MS = 3_600_000;
const MAX_VIOLATIONS = 20;
const NOT_FOUND: number = status.NOT_FOUND;
const RESOURCE_EXHAUSTED: number = status.RESOURCE_EXHAUSTED;
const REFUSALS = new Set<number>([status.PERMISSION_DENIED, status.UNAUTHENTICATED]);

/** Lets many clients build for a day: find what is missing, upload it, store the result, ask for it, read it all. */
export async function runChurn(options: ChurnOptions): Promise<ChurnFigures> {
  const figures: ChurnFigures = {
    ...{ builds: 0, hits: 0, misses: 0, evicted: 0, uploads: 0, uploadedBytes: 0, reads: 0 },
    ...{ refused: 0, unknown: 0, strangersRefused: 0, violations: [] },
  };
  const startMs = options.nowMs();
  /** What was ever sent to a scope, also when the answer did not come. */
  const sent = new Set<string>();
  await Promise.all(
    Array.from({ length: options.clients }, async (_, client) => {
      const random = options.random.fork(`client ${client}`);
      while (options.nowMs() < options.endsAtMs && figures.violations.length < MAX_VIOLATIONS) {
        await buildOne({ ...options, random, figures, sent, startMs });
        await sleep(options.restMs);
      }
    }),
  );
  return figures;
}

interface Build extends ChurnOptions {
  readonly figures: ChurnFigures;
  readonly sent: Set<string>;
  readonly startMs: number;
}

async function buildOne(build: Build): Promise<void> {
  const { random, scopes, figures, nowMs, startMs, actionsPerHour } = build;
  const scope = random.pick(scopes);
  // Most builds ask for what is new, some for what is old.
  const newest = Math.floor(((nowMs() - startMs) / HOUR_MS + 1) * actionsPerHour);
  const age = Math.floor(random.next() ** 4 * newest);
  const number = newest - age;
  figures.builds += 1;
  if (random.chance(0.05)) await askAsStranger(build, scope, number);
  const isHit = await useAction(build, scope, number);
  if (isHit === false) await makeAction(build, scope, number);
}

const actionOf = (instance: string, number: number): BlobDigest =>
  digestOf(Buffer.from(`action ${instance} ${number}`));

/** Asks for an ActionResult and reads all that it names; false for a miss. */
async function useAction(
  build: Build,
  { cache, instance }: ChurnScope,
  number: number,
): Promise<boolean | undefined> {
  const { ledger, figures, nowMs, sent } = build;
  const name = `${instance}/action/${number}`;
  const askedAtMs = nowMs();
  const untilMs = ledger.promisedUntilMs(name);
  const found = await cache.getAction(instance, actionOf(instance, number));
  const answeredAtMs = nowMs();
  if (found === undefined) {
    figures.unknown += 1;
    return undefined;
  }
  if ("code" in found) {
    if (found.code !== NOT_FOUND) figures.violations.push(`${name}: status ${found.code}`);
    requireGone(build, name, untilMs, answeredAtMs);
    figures.misses += 1;
    if (sent.has(name)) figures.evicted += 1;
    return false;
  }
  figures.hits += 1;
  if (!sent.has(name)) figures.violations.push(`${name} is a hit, and was never stored here`);
  ledger.promise(name, askedAtMs);
  const digests = found.value.outputFiles.map(({ digest }) => ({
    hash: digest?.hash ?? "",
    sizeBytes: Number(digest?.sizeBytes),
  }));
  for (const { hash } of digests) ledger.promise(`${instance}/blob/${hash}`, askedAtMs);
  for (const digest of digests) {
    const { hash } = digest;
    const blobName = `${instance}/blob/${hash}`;
    const readAtMs = nowMs();
    const read = await cache.read(instance, digest);
    if (read === undefined) {
      figures.unknown += 1;
      return undefined;
    }
    figures.reads += 1;
    if ("value" in read && read.value !== undefined) ledger.promise(blobName, readAtMs);
    // What a client was told of at the beginning of a very slow read may have gone.
    else if (ledger.promisedUntilMs(blobName) > nowMs()) {
      figures.violations.push(`${name} was given, and its blob ${hash} is gone`);
    }
  }
  return true;
}

/** @param untilMs What had been promised when it was asked for; a crash meanwhile may have taken that back. */
function requireGone(
  { ledger, figures }: Build,
  name: string,
  untilMs: number,
  answeredAtMs: number,
): void {
  if (Math.min(untilMs, ledger.promisedUntilMs(name)) <= answeredAtMs) return;
  figures.violations.push(`${name} went too early: ${ledger.describe(name, answeredAtMs)}`);
}

/** Does the work of an action, and stores what came of it. */
async function makeAction(
  build: Build,
  { cache, instance, tenant }: ChurnScope,
  number: number,
): Promise<void> {
  const { ledger, figures, nowMs, sent, random } = build;
  const outputs = outputsOf(tenant, number, random);
  const digests = outputs.map((bytes) => digestOf(bytes));
  const nameOf = ({ hash }: BlobDigest): string => `${instance}/blob/${hash}`;
  const askedAtMs = nowMs();
  const untilMs = digests.map((digest) => ledger.promisedUntilMs(nameOf(digest)));
  const found = await cache.findMissing(instance, digests);
  const answeredAtMs = nowMs();
  if (found === undefined || "code" in found) {
    figures.unknown += 1;
    return;
  }
  for (const [at, digest] of digests.entries()) {
    const name = nameOf(digest);
    if (!found.value.has(digest.hash)) {
      if (!sent.has(name)) figures.violations.push(`${name} is here, and was never sent`);
      ledger.promise(name, askedAtMs);
      continue;
    }
    requireGone(build, name, untilMs[at] ?? 0, answeredAtMs);
    sent.add(name);
    const sentAtMs = nowMs();
    const bytes = outputs[at] ?? Buffer.alloc(0);
    const done = await cache.upload(instance, bytes);
    if (done === undefined) {
      figures.unknown += 1;
      return;
    }
    if ("code" in done) {
      if (done.code !== RESOURCE_EXHAUSTED) {
        figures.violations.push(`${name}: upload ended with ${done.code}`);
      }
      figures.refused += 1;
      return;
    }
    figures.uploads += 1;
    figures.uploadedBytes += bytes.length;
    // Somebody else may have been first, and then it is a mere use.
    ledger.promise(name, sentAtMs);
  }
  const name = `${instance}/action/${number}`;
  sent.add(name);
  const storedAtMs = nowMs();
  const stored = await cache.putAction(instance, actionOf(instance, number), digests);
  if (stored === undefined) figures.unknown += 1;
  else if ("code" in stored) figures.refused += 1;
  // It is given only while all of its blobs are there: those may have gone before it was stored, after a slow build.
  else if (digests.every((digest) => ledger.promisedUntilMs(nameOf(digest)) > nowMs())) {
    ledger.promise(name, storedAtMs);
  }
}

/** A tenant's token is of no use elsewhere. */
async function askAsStranger(
  { figures }: Build,
  { stranger, instance, tenant }: ChurnScope,
  number: number,
): Promise<void> {
  const digests = [digestOf(commonOutput(number % 50)), digestOf(ownOutput(tenant, number, 0))];
  const found = await stranger.findMissing(instance, digests);
  if (found === undefined) return;
  const code = "code" in found ? found.code : status.OK;
  if (REFUSALS.has(code)) figures.strangersRefused += 1;
  else figures.violations.push(`a stranger was answered about ${instance} with ${code}`);
}

/** Some are the same for every tenant, as a compiler's are; most are an action's own. */
function outputsOf(tenant: string, number: number, random: Random): Buffer[] {
  const outputs = Array.from({ length: 1 + (number % 4) }, (_, at) =>
    ownOutput(tenant, number, at),
  );
  if (random.chance(0.5)) outputs.push(commonOutput(random.below(50)));
  return outputs;
}

function ownOutput(tenant: string, number: number, at: number): Buffer {
  // Most are small; every tenth lies in a file of its own.
  const sizeBytes =
    (number + at) % 10 === 0 ? 40_000 + 10_000 * (number % 9) : 500 + 97 * (number % 90);
  const line = `${tenant} ${number} ${at}\n`;
  return Buffer.from(line.repeat(Math.ceil(sizeBytes / line.length)).slice(0, sizeBytes));
}

function commonOutput(number: number): Buffer {
  return Buffer.from(`common ${number}\n`.repeat(100 + 100 * number));
}
