/**
 * `pnpm fuzz [TARGET…] [--seconds N] [--inputs N] [--seed S] [--artifacts FOLDER]`: throws bytes at everything that
 * takes them from strangers. Ends with 1 when it finds something, and says how to have it again.
 */
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";

import { allTargets } from "./all-targets.ts";
import { type FuzzReport, runTarget } from "./run-target.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seconds: { type: "string" },
    inputs: { type: "string" },
    seed: { type: "string", default: "1" },
    artifacts: { type: "string", default: path.join(tmpdir(), "flywheel-fuzz") },
    /** Tries one file and nothing else. */
    file: { type: "string" },
    list: { type: "boolean", default: false },
  },
});

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

function describe({ target, missing, inputs, durationMs, ...report }: FuzzReport): string {
  if (missing !== undefined) return `${target}: not run, ${missing}`;
  const outcomes = [...report.outcomes].sort(([, left], [, right]) => right - left).slice(0, 8);
  const guided = report.blocks === 0 ? "" : `, ${report.corpus} kept, ${report.blocks} blocks`;
  return (
    `${target}: ${inputs} inputs in ${(durationMs / 1000).toFixed(1)} s from ${report.seeds} seeds${guided}; ` +
    outcomes.map(([outcome, count]) => `${count} ${outcome}`).join(", ")
  );
}

async function main(): Promise<number> {
  const targets = allTargets.filter(
    ({ name }) => positionals.length === 0 || positionals.includes(name),
  );
  const unknown = positionals.filter((name) => !allTargets.some((target) => target.name === name));
  if (unknown.length > 0 || values.list) {
    for (const { name, summary } of allTargets) say(`${name.padEnd(16)} ${summary}`);
    return unknown.length > 0 ? 2 : 0;
  }
  const seconds = values.seconds ?? (values.inputs === undefined ? "10" : "3600");
  let findings = 0;
  for (const target of targets) {
    if (values.file !== undefined) {
      const opened = await target.open();
      if ("missing" in opened) throw new Error(opened.missing);
      await using open = opened;
      say(`${target.name}: ${await open.run(await readFile(values.file))}`);
      continue;
    }
    const report = await runTarget(target, {
      seed: Number(values.seed),
      maxInputs: Number(values.inputs ?? Number.POSITIVE_INFINITY),
      maxMs: Number(seconds) * 1000,
      artifacts: values.artifacts,
    });
    say(describe(report));
    for (const { message, file } of report.findings) {
      findings += 1;
      say(`  found: ${message.replaceAll("\n", "\n    ")}`);
      say(`  again: pnpm fuzz ${target.name} --file ${file}`);
    }
  }
  return findings > 0 ? 1 : 0;
}

process.exitCode = await main();
