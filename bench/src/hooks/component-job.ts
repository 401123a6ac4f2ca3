import { mkdir, readFile, rm } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { gitlabClaims, type IdentityWorld, runCommand } from "@glorious/testkit";
import { parseAllDocuments } from "yaml";

import { GITLAB_PROJECT, type HookedMachine } from "./hooked-machine.ts";

const TEMPLATE = fileURLToPath(new URL("../../../gitlab/templates/attic.yml", import.meta.url));

/** A job that includes GitLab's component for Nix. */
export interface ComponentJobOptions {
  readonly world: IdentityWorld;
  readonly server: string;
  /** Whether the image has the command; otherwise the job has Node alone, and fetches it. */
  readonly hasCommand: boolean;
}

/** Runs the component's scripts as GitLab's runner does. Returns what the first took, and what it said. */
export async function runComponentJob(
  { sandbox, commandFolder, compileCache }: HookedMachine,
  { world, server, hasCommand }: ComponentJobOptions,
): Promise<{ readonly startMs: number; readonly said: string }> {
  const { before, after } = await readScripts(server);
  const project = path.join(sandbox.directory, "site");
  await rm(`${project}.tmp`, { recursive: true, force: true });
  await mkdir(project, { recursive: true });
  const node = path.dirname(process.execPath);
  const env = {
    ...sandbox.env,
    ...world.jobEnvironment("gitlab", gitlabClaims(GITLAB_PROJECT)),
    PATH: `${hasCommand ? commandFolder : node}:${sandbox.env["PATH"] ?? ""}`,
    // Of a command that comes anew with each job Node has kept nothing.
    NODE_COMPILE_CACHE: hasCommand ? compileCache : path.join(`${project}.tmp`, "compiled"),
    CI_PROJECT_DIR: project,
    CI_JOB_ID: "1",
  };
  const fromMs = performance.now();
  const start = await runCommand("sh", ["-eu"], { cwd: project, env, input: before });
  const startMs = performance.now() - fromMs;
  const end = await runCommand("sh", ["-eu"], { cwd: project, env, input: after });
  if (start.status !== 0 || end.status !== 0) throw new Error(`${start.stderr}${end.stderr}`);
  return { startMs, said: start.stderr };
}

interface HiddenJob {
  readonly before_script: readonly string[];
  readonly after_script: readonly string[];
}

async function readScripts(server: string): Promise<Record<"before" | "after", string>> {
  const [spec, content] = parseAllDocuments(await readFile(TEMPLATE, "utf8")).map(
    (document) => document.toJS() as unknown,
  );
  const { inputs } = (
    spec as { spec: { inputs: Record<string, { default: string | number | boolean }> } }
  ).spec;
  const [job] = Object.values(content as Record<string, HiddenJob>);
  const fill = (lines: readonly string[] = []): string =>
    lines
      .join("\n")
      .replaceAll(/\$\[\[ inputs\.([\w-]+) \]\]/g, (_, name: string) =>
        name === "server-url" ? server : String(inputs[name]?.default ?? ""),
      );
  return { before: fill(job?.before_script), after: fill(job?.after_script) };
}
