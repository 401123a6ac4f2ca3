import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { createTemporaryDirectory, runCommand } from "@glorious/testkit";
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
        readonly steps: ReadonlyArray<{
          readonly name?: string;
          readonly uses?: string;
          readonly run?: string;
        }>;
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
    // Arguments are there for all to see.
    expect(text).not.toMatch(/git -c|extraHeader=/i);
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

test("a release that stopped in the middle of its packages goes on with those that are not there", async () => {
  const { jobs } = parse(await readFile(path.join(WORKFLOWS, "release.yml"), "utf8")) as Workflow;
  const script = jobs["npm"]?.steps.find(({ name }) => name === "Publish")?.run ?? "";
  await using folder = await createTemporaryDirectory("flywheel-publish-");
  const at = (name: string): string => path.join(folder.path, name);
  await mkdir(at("package"));
  await mkdir(at("assets"));
  for (const name of ["core", "store", "trust"]) {
    await writeFile(
      at("package/package.json"),
      JSON.stringify({ name: `@glorious/${name}`, version: "1.0.0" }),
    );
    await runCommand("tar", ["-czf", `assets/${name}.tgz`, "package"], { cwd: folder.path });
  }
  await mkdir(at("bin"));
  await writeFile(
    at("bin/npm"),
    `#!/bin/sh
[ "$1" != view ] || [ "$2" = @glorious/core@1.0.0 ] || exit 1
[ "$1" != publish ] || echo "$2" >>published
`,
    { mode: 0o755 },
  );

  const { status, stderr } = await runCommand("bash", ["-e", "-c", script], {
    cwd: folder.path,
    env: {
      PATH: `${at("bin")}:${path.dirname(process.execPath)}:${process.env["PATH"]}`,
      TAG: "v1.0.0",
    },
  });

  expect(status, stderr).toBe(0);
  expect(await readFile(at("published"), "utf8")).toBe("assets/store.tgz\nassets/trust.tgz\n");
});
