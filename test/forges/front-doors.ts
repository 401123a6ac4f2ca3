import { readFile } from "node:fs/promises";
import path from "node:path";

import { runJob } from "@glorious/action-emulator";
import {
  type BazelWorkspace,
  createTemporaryDirectory,
  type NixSandbox,
  runCommand,
  type TestForge,
} from "@glorious/testkit";

import { actionDirectory } from "../actions/action-copy.ts";
import { claimsOf } from "./events.ts";
import type { RecordedExchange, RecordingWorld } from "./recording-server.ts";
import { describeSessionFiles } from "./session-files.ts";

/** The machine that a job runs on. */
export interface JobMachine {
  readonly sandbox: NixSandbox;
  readonly workspace: BazelWorkspace;
}

/** What a job asked for, and what it was given on the disk. */
export interface OpenedJob {
  readonly exchanges: readonly RecordedExchange[];
  readonly files: string;
}

const COPY = 'cp -a "$FLYWHEEL_SESSION" "$KEPT"; printf %s "$FLYWHEEL_SESSION" >"$KEPT.name"';
const flywheel = path.join(actionDirectory("setup-flywheel"), "dist", "flywheel.mjs");

/** Begins a job for an event by what its forge's people write, and keeps what its session holds. */
export async function openJob(
  forge: TestForge,
  event: string,
  { recording, machine }: { readonly recording: RecordingWorld; readonly machine: JobMachine },
): Promise<OpenedJob> {
  await using runner = await createTemporaryDirectory(`flywheel-${forge}-`);
  const kept = path.join(runner.path, "kept");
  const { HOME: _, TMPDIR: __, PATH = "", ...nixEnv } = machine.sandbox.env;
  const env = {
    ...nixEnv,
    PATH: `${machine.workspace.commandDirectory}:${PATH}`,
    FLYWHEEL_SERVER: recording.url,
    KEPT: kept,
  };
  const given = recording.world.jobEnvironment(forge, claimsOf(event, forge));
  const workspace = machine.workspace.directory;
  if (forge === "gitlab") {
    const home = { HOME: runner.path, TMPDIR: runner.path };
    const script = `eval "$(${process.execPath} ${flywheel} setup --kind nix --kind bazel --shell)"
${COPY}
${process.execPath} ${flywheel} drain --end`;
    const said = await runCommand("sh", ["-euc", script], {
      env: { ...env, ...home, ...given },
      cwd: workspace,
    });
    if (said.status !== 0) throw new Error(said.stderr);
  } else {
    const job = await runJob({
      directory: runner.path,
      flavour: forge,
      workspace,
      env,
      identity: {
        requestUrl: given["ACTIONS_ID_TOKEN_REQUEST_URL"] ?? "",
        requestToken: given["ACTIONS_ID_TOKEN_REQUEST_TOKEN"] ?? "",
      },
      steps: [{ uses: actionDirectory("setup-flywheel") }, { run: COPY }],
    });
    const log = job.steps.map((step) => step.log).join("");
    if (job.conclusion !== "success") throw new Error(log);
  }
  const settings = await readFile(path.join(kept, "settings.json"), "utf8");
  const { secret } = JSON.parse(settings) as { readonly secret: string };
  const session = await readFile(`${kept}.name`, "utf8");
  const nix = machine.sandbox.nix.binDirectory;
  const varying = { session, secret, server: recording.url, nix };
  return { exchanges: recording.take(), files: await describeSessionFiles(kept, varying) };
}
