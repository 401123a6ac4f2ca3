import { readFile } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import type { DrainResult, SetupResult } from "@glorious/runner-agent";
import {
  createNixSandbox,
  type NixSandbox,
  type NixVersion,
  runCommand,
  type RunningFlywheel,
} from "@glorious/testkit";

import { time, type Timing } from "../command.ts";

/** The command as actions bring it: what a job's agent really is. */
const BUNDLE = path.join(
  fileURLToPath(new URL("../../..", import.meta.url)),
  "actions/setup-attic/dist/flywheel.mjs",
);

/** A runner takes no less between the step that sets up and the one that builds. */
const NEXT_STEP_MS = 500;

/** A fresh machine's Nix and the cache that it reads from. */
export interface PullJob {
  readonly nix: NixVersion;
  readonly server: RunningFlywheel;
  /** Where the server is reached. */
  readonly address: string;
  /** Default `main`. */
  readonly view?: string;
  /** Where Nix reads without an agent, in place of the view. */
  readonly from?: readonly string[];
  /** Beside the view's own. */
  readonly trustedKeys?: readonly string[];
  readonly top: string;
  /** `realise`: `nix-store -r`; `copy`: `nix copy --from`. */
  readonly by: "realise" | "copy";
  readonly settings?: Readonly<Record<string, string>>;
}

/** Pulls a closure from the server itself. */
export async function pullDirectly(job: PullJob): Promise<Timing> {
  await using sandbox = await createSandbox(job);
  const { address, view = "main", from = [`${address}/${view}`] } = job;
  return await pull(sandbox, job, from.join(" "), sandbox.env);
}

/** What a pull through an agent took, and what the agent said of itself. */
export interface AgentPull extends Timing {
  /** Resident memory of the agent, the most there was. */
  readonly peakMemoryBytes: number;
  readonly summary: DrainResult["summary"];
}

/** The same through an agent that was set up for the job before, as an action does. */
export async function pullThroughAgent(job: PullJob): Promise<AgentPull> {
  await using sandbox = await createSandbox(job);
  const flywheel = async (words: readonly string[], env: typeof sandbox.env, input = "") => {
    const said = await runCommand(process.execPath, [BUNDLE, ...words], { env, input });
    if (said.status !== 0) throw new Error(`flywheel ${words[0]} failed: ${said.stderr}`);
    return JSON.parse(said.stdout) as unknown;
  };
  const request = {
    version: 1,
    kinds: ["nix"],
    serverUrl: job.address,
    view: job.view ?? "main",
    token: await job.server.readToken(),
    push: "false",
    pushMode: "none",
    temporaryDirectory: sandbox.directory,
    jobPid: process.pid,
  };
  const result = (await flywheel(
    ["setup", "--request", "-"],
    sandbox.env,
    JSON.stringify(request),
  )) as SetupResult;
  const { substituter, session = "" } = result;
  if (substituter === undefined) throw new Error(`The agent is ${result.status}: ${result.reason}`);
  const env = { ...sandbox.env, ...result.environment };
  await sleep(NEXT_STEP_MS);
  const timing = await pull(sandbox, job, substituter, env);
  const state = JSON.parse(await readFile(path.join(session, "session.json"), "utf8")) as {
    readonly process: { readonly pid: number };
  };
  const status = await readFile(`/proc/${state.process.pid}/status`, "utf8");
  const peakKib = Number(/^VmHWM:\s*(\d+) kB$/m.exec(status)?.[1]);
  const { summary } = (await flywheel(
    ["drain", "--session", session, "--timeout", "10s", "--json", "--end"],
    env,
  )) as DrainResult;
  return { ...timing, peakMemoryBytes: peakKib * 1024, summary };
}

async function createSandbox({ nix, server, trustedKeys = [] }: PullJob): Promise<NixSandbox> {
  return createNixSandbox(nix, {
    trustedKeys: [server.publicKey, ...trustedKeys],
    netrc: [{ password: await server.readToken() }],
  });
}

function pull(
  sandbox: NixSandbox,
  { by, top, settings = {} }: PullJob,
  from: string,
  env: Readonly<Record<string, string>>,
): Promise<Timing> {
  const options = Object.entries(settings).flatMap(([name, value]) => ["--option", name, value]);
  const words =
    by === "realise"
      ? ["nix-store", "--store", sandbox.store, "-r", top, "--option", "substituters", from]
      : ["nix", "copy", "--from", from, "--to", sandbox.store, top];
  const [command = "", ...rest] = words;
  return time(command, [...rest, ...options], env);
}
