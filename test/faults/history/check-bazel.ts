import { readdir } from "node:fs/promises";
import path from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as pause } from "node:timers/promises";

import { getEntry } from "../traffic/bazel-traffic.ts";
import type { Target } from "../traffic/clients.ts";
import type { BazelEntry, EntryExpectation } from "./bazel-history.ts";

const PATIENCE_MS = 10_000;
const CHECKS_AT_ONCE = 8;

/**
 * Holds a running server against what clients were promised: what was acknowledged is there, all that is there is
 * whole, and no ActionResult is given without everything it needs.
 */
export async function checkBazel(
  target: Target,
  expectations: readonly EntryExpectation[],
): Promise<{ readonly violations: readonly string[]; readonly present: ReadonlySet<BazelEntry> }> {
  const violations: string[] = [];
  const present = new Set<BazelEntry>();

  const check = async (expectation: EntryExpectation): Promise<void> => {
    const { entry, mayBePresent, mayBeAbsent } = expectation;
    const bytes = await getEntry(target, entry);
    if (bytes === undefined) {
      if (!mayBeAbsent) violations.push(`${entry.path} was acknowledged and is gone`);
      return;
    }
    present.add(entry);
    if (!bytes.equals(entry.bytes)) violations.push(`${entry.path} has other bytes`);
    if (!mayBePresent) violations.push(`${entry.path} is there and was deleted`);
    for (const need of entry.needs) {
      if ((await getEntry(target, need)) !== undefined) continue;
      violations.push(`${entry.path} is given without its ${need.path}`);
    }
  };

  // First the ActionResults, as a build does, when the server has looked after nothing yet.
  const queue = expectations.toSorted((one, other) => rank(other) - rank(one));
  const work = async (): Promise<void> => {
    for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
      const { path: name } = next.entry;
      await check(next).catch((error: unknown) => {
        violations.push(`${name} cannot be asked for: ${String(error)}`);
      });
    }
  };
  await Promise.all(Array.from({ length: CHECKS_AT_ONCE }, work));
  return { violations: violations.toSorted(), present };
}

function rank({ entry }: EntryExpectation): number {
  return entry.kind === "action" ? 0 : 1;
}

/** Where a server keeps the Bazel data of its own tenant. */
export function bazelDirectory(dataDirectory: string): string {
  return path.join(dataDirectory, "tenants", "_default", "bazel");
}

/** What must be true of the Bazel data soon after its server's start: nothing is left over, and the index is sound. */
export async function checkBazelDirectory(dataDirectory: string): Promise<string[]> {
  const directory = bazelDirectory(dataDirectory);
  const untilMs = Date.now() + PATIENCE_MS;
  for (;;) {
    const violations = await findLeftovers(directory);
    // What a crash left is deleted while the server serves.
    if (violations.length === 0 || Date.now() > untilMs) return violations;
    await pause(20);
  }
}

async function findLeftovers(directory: string): Promise<string[]> {
  const violations: string[] = [];
  for (const name of await namesIn(path.join(directory, "packs"))) {
    if (name.endsWith(".damaged")) violations.push(`The pack ${name} is damaged`);
  }
  const file = path.join(directory, "index.sqlite");
  using database = new DatabaseSync(file, { readOnly: true });
  const sound = database.prepare("PRAGMA integrity_check").get()?.["integrity_check"];
  if (sound !== "ok") violations.push(`The Bazel index is damaged: ${String(sound)}`);
  const known = database.prepare("SELECT file FROM objects WHERE file IS NOT NULL").all();
  const isKnown = new Set(known.map(({ file: key }) => path.basename(String(key))));
  const blobs = path.join(directory, "store", "blobs");
  for (const namespace of ["cas", "kv"]) {
    for (const name of await namesIn(path.join(blobs, namespace))) {
      if (isKnown.has(name)) continue;
      violations.push(`The file ${namespace}/${name} is unknown to the index and will never go`);
    }
  }
  return violations;
}

/** Of files, at any depth; none when the folder is absent. */
async function namesIn(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true }).catch(
    () => [],
  );
  return entries.filter((entry) => entry.isFile()).map(({ name }) => name);
}
