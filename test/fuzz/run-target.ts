import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { createRandom, type Random } from "../random.ts";
import { type Coverage, startCoverage } from "./coverage.ts";
import type { FuzzTarget, OpenTarget } from "./fuzz-target.ts";
import { mutate } from "./mutator.ts";
import { startWatchdog } from "./watchdog.ts";

export interface FuzzOptions {
  readonly seed: number;
  /** Ends after so many inputs or so much time, whichever comes first. */
  readonly maxInputs: number;
  readonly maxMs: number;
  /** Where inputs of findings are written. */
  readonly artifacts: string;
}

/** An input that broke a rule. */
export interface FoundInput {
  readonly message: string;
  readonly input: Buffer;
  readonly file: string;
}

export interface FuzzReport {
  readonly target: string;
  /** Why it did not run. */
  readonly missing?: string;
  readonly inputs: number;
  readonly durationMs: number;
  readonly seeds: number;
  /** Inputs that reached new code and were kept, the seeds included; 0 without guidance. */
  readonly corpus: number;
  readonly blocks: number;
  readonly outcomes: ReadonlyMap<string, number>;
  readonly findings: readonly FoundInput[];
}

const CORPUS = fileURLToPath(new URL("corpus/", import.meta.url));
/** Inputs between two looks at what they covered. */
const BATCH = 24;
const MAX_FINDINGS = 20;
const HANG_MS = 20_000;
const SLOW_MS = 3000;
const SHRINK_MS = 5000;

/** Tries seeds, what earlier runs found, made-up inputs and mutations of all of them. */
export async function runTarget(target: FuzzTarget, options: FuzzOptions): Promise<FuzzReport> {
  const startedMs = performance.now();
  const opened = await target.open();
  if ("missing" in opened) return emptyReport(target.name, opened.missing);
  await using open = opened;
  await mkdir(options.artifacts, { recursive: true });
  await using watchdog = startWatchdog(
    path.join(options.artifacts, `${target.name}-hang.bin`),
    HANG_MS,
    target.maxBytes,
  );
  const { concurrency = 1 } = target;
  using coverage = concurrency === 1 ? await startCoverage(target.guides) : undefined;
  const run = new FuzzRun(target, open, options, coverage, (input) => watchdog.begin(input));
  await run.tryAll([...(await target.seeds()), ...(await readCorpus(target.name))]);
  const seeds = run.inputs;
  while (
    run.inputs < options.maxInputs &&
    performance.now() - startedMs < options.maxMs &&
    run.findings.size < MAX_FINDINGS
  ) {
    await run.tryFresh(Math.min(BATCH * concurrency, options.maxInputs - run.inputs));
  }
  return {
    target: target.name,
    inputs: run.inputs,
    durationMs: performance.now() - startedMs,
    seeds,
    corpus: run.corpus.length,
    blocks: coverage?.blocks ?? 0,
    outcomes: run.outcomes,
    findings: [...run.findings.values()],
  };
}

class FuzzRun {
  inputs = 0;
  readonly corpus: Buffer[] = [];
  readonly outcomes = new Map<string, number>();
  readonly findings = new Map<string, FoundInput>();
  readonly #target: FuzzTarget;
  readonly #open: OpenTarget;
  readonly #options: FuzzOptions;
  readonly #coverage: Coverage | undefined;
  readonly #begin: (input: Buffer) => void;
  readonly #random: Random;
  readonly #dictionary: readonly Buffer[];

  constructor(
    target: FuzzTarget,
    open: OpenTarget,
    options: FuzzOptions,
    coverage: Coverage | undefined,
    begin: (input: Buffer) => void,
  ) {
    this.#target = target;
    this.#open = open;
    this.#options = options;
    this.#coverage = coverage;
    this.#begin = begin;
    this.#random = createRandom(`${options.seed} ${target.name}`);
    this.#dictionary = target.dictionary.map((word) => Buffer.from(word));
  }

  /** Tries inputs as they are, and keeps all of them as a start. */
  async tryAll(inputs: readonly Buffer[]): Promise<void> {
    const kept = inputs.filter((input) => input.length <= this.#target.maxBytes);
    await this.#tryBatch(kept);
    this.#coverage?.add(await this.#coverage.takeNew());
    this.corpus.push(...kept);
  }

  async tryFresh(count: number): Promise<void> {
    const { maxBytes, generate } = this.#target;
    const random = this.#random;
    const batch: Buffer[] = [];
    while (batch.length < count) {
      const isNew = generate !== undefined && random.chance(0.3);
      const start = isNew ? await generate(random) : this.#pickStart();
      const options = { dictionary: this.#dictionary, corpus: this.corpus, maxBytes };
      batch.push(isNew && random.chance(0.5) ? start : mutate(start, random, options));
    }
    await this.#tryBatch(batch);
    if (this.#coverage !== undefined) await this.#keepCovering(batch, this.#coverage);
  }

  /** Later ones more often: they are what led on. */
  #pickStart(): Buffer {
    const { corpus } = this;
    if (corpus.length === 0) return Buffer.alloc(0);
    const at = Math.floor(corpus.length * Math.sqrt(this.#random.next()));
    return corpus[at] ?? Buffer.alloc(0);
  }

  /** Keeps, of a batch that reached something new, those inputs that did. */
  async #keepCovering(batch: readonly Buffer[], coverage: Coverage): Promise<void> {
    const reached = await coverage.takeNew();
    if (reached.size === 0) return;
    const left = new Set(reached);
    for (const input of batch) {
      await this.#tryOne(input, false);
      const before = left.size;
      for (const block of await coverage.takeNew()) left.delete(block);
      if (left.size < before) this.corpus.push(input);
    }
    coverage.add(reached);
  }

  async #tryBatch(batch: readonly Buffer[]): Promise<void> {
    const queue = batch.toReversed();
    const work = async (): Promise<void> => {
      for (let input = queue.pop(); input !== undefined; input = queue.pop()) {
        await this.#tryOne(input, true);
      }
    };
    await Promise.all(Array.from({ length: this.#target.concurrency ?? 1 }, work));
  }

  async #tryOne(input: Buffer, counts: boolean): Promise<void> {
    this.#begin(input);
    const startedMs = performance.now();
    if (counts) this.inputs += 1;
    try {
      const running = this.#open.run(input);
      const outcome = typeof running === "string" ? running : await running;
      if (counts) this.outcomes.set(outcome, (this.outcomes.get(outcome) ?? 0) + 1);
      const isSlow = performance.now() - startedMs > SLOW_MS && this.#target.isForeign !== true;
      if (isSlow) await this.#report("It takes too long", input);
    } catch (error) {
      await this.#report(signatureOf(error), input, error);
    }
  }

  async #report(message: string, input: Buffer, error?: unknown): Promise<void> {
    if (this.findings.has(message)) return;
    const smallest = await this.#shrink(message, input);
    const hash = createHash("sha256").update(smallest).digest("hex").slice(0, 12);
    const file = path.join(this.#options.artifacts, `${this.#target.name}-${hash}.bin`);
    await writeFile(file, smallest);
    const detail = error instanceof Error ? `\n${error.stack ?? error.message}` : "";
    this.findings.set(message, { message: message + detail, input: smallest, file });
  }

  /** Takes pieces away for as long as the finding stays the same. */
  async #shrink(message: string, input: Buffer): Promise<Buffer> {
    const deadlineMs = performance.now() + SHRINK_MS;
    let smallest = input;
    for (let size = Math.ceil(input.length / 2); size >= 1;) {
      const shorter = await this.#cutOut(message, smallest, size, deadlineMs);
      if (shorter !== undefined) smallest = shorter;
      else size = size === 1 ? 0 : Math.ceil(size / 2);
    }
    return smallest;
  }

  /** The input without some piece of that size, if one can go. */
  async #cutOut(
    message: string,
    input: Buffer,
    size: number,
    deadlineMs: number,
  ): Promise<Buffer | undefined> {
    for (let at = 0; at < input.length && performance.now() < deadlineMs; at += size) {
      const candidate = Buffer.concat([input.subarray(0, at), input.subarray(at + size)]);
      this.#begin(candidate);
      try {
        await this.#open.run(candidate);
      } catch (error) {
        if (signatureOf(error) === message) return candidate;
      }
    }
    return undefined;
  }
}

/** Equal findings look equal: without numbers and quoted text. */
function signatureOf(error: unknown): string {
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  const [first = ""] = text.split("\n");
  return first
    .replaceAll(/"(?:[^"\\]|\\.)*"/g, '"…"')
    .replaceAll(/\d+/g, "n")
    .slice(0, 200);
}

async function readCorpus(name: string): Promise<Buffer[]> {
  const directory = path.join(CORPUS, name);
  const names = await readdir(directory).catch(() => []);
  return Promise.all(
    names
      .toSorted((a, b) => a.localeCompare(b, "en"))
      .map((file) => readFile(path.join(directory, file))),
  );
}

function emptyReport(target: string, missing: string): FuzzReport {
  const nothing = { inputs: 0, durationMs: 0, seeds: 0, corpus: 0, blocks: 0 };
  return { target, missing, ...nothing, outcomes: new Map(), findings: [] };
}
