import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { expect, test } from "vitest";
import { parse } from "yaml";

const WORKFLOWS = fileURLToPath(new URL("../../../.github/workflows", import.meta.url));
/** What a job may ask for beside reading, with the job that needs it. */
const WRITES: Readonly<Record<string, readonly string[]>> = {
  draft: ["contents", "id-token", "attestations"],
  npm: ["id-token"],
};

interface Workflow {
  readonly permissions: Readonly<Record<string, string>>;
  readonly jobs: Readonly<
    Record<
      string,
      {
        readonly permissions: Readonly<Record<string, string>>;
        readonly "timeout-minutes": number;
        readonly steps: ReadonlyArray<{ readonly uses?: string }>;
      }
    >
  >;
}

const names = await readdir(WORKFLOWS);

test.each(names)(
  "%s stores no secret, pins what it uses, and each job may do what it needs",
  async (name) => {
    const text = await readFile(path.join(WORKFLOWS, name), "utf8");
    const { permissions, jobs } = parse(text) as Workflow;
    expect(text).not.toContain("secrets.");
    expect(permissions).toEqual({});
    for (const [id, job] of Object.entries(jobs)) {
      const writes = Object.entries(job.permissions).filter(([, access]) => access !== "read");
      expect([id, writes.map(([scope]) => scope)]).toEqual([id, WRITES[id] ?? []]);
      expect(job["timeout-minutes"]).toBeGreaterThan(0);
      const used = job.steps.flatMap(({ uses }) => uses ?? []);
      expect(used.filter((action) => !/@[0-9a-f]{40}$/.test(action))).toEqual([]);
    }
  },
);
