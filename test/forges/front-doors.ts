import { cp, readFile } from "node:fs/promises";
import path from "node:path";

import { runJob } from "@glorious/action-emulator";
import {
  type BazelWorkspace,
  createTemporaryDirectory,
  type NixSandbox,
  type TestForge,
} from "@glorious/testkit";

import { actionDirectory } from "../actions/action-copy.ts";
import { createPipeline } from "../gitlab/pipeline.ts";
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
/** A component's end has five minutes at most, an action's has them by itself. */
const TIMES = { timeout: "10", "drain-timeout": "240" };
/** The components' own files by `include`, in a job that runs both, as `examples/both` has it. */
const PIPELINE = `
include:
  - component: $CI_SERVER_FQDN/glorious/flywheel/attic@1
  - component: $CI_SERVER_FQDN/glorious/flywheel/bazel@1

build:
  extends: .flywheel-nix
  before_script:
    - !reference [.flywheel-nix, before_script]
    - !reference [.flywheel-bazel, before_script]
  script:
    - ${COPY}
`;

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
  if (forge === "gitlab") await runPipeline({ ...env, HOME: runner.path }, given, workspace);
  else {
    const job = await runJob({
      directory: runner.path,
      flavour: forge,
      workspace,
      env,
      identity: {
        requestUrl: given["ACTIONS_ID_TOKEN_REQUEST_URL"] ?? "",
        requestToken: given["ACTIONS_ID_TOKEN_REQUEST_TOKEN"] ?? "",
      },
      steps: [
        { uses: actionDirectory("setup-attic"), with: TIMES },
        { uses: actionDirectory("setup-bazel-cache"), with: TIMES },
        { run: COPY },
      ],
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

/** Runs a job of GitLab's that has these variables of the forge. */
async function runPipeline(
  env: Readonly<Record<string, string>>,
  given: Readonly<Record<string, string>>,
  workspace: string,
): Promise<void> {
  await using repository = await createPipeline("both", { ".gitlab-ci.yml": PIPELINE });
  await cp(workspace, repository.directory, { recursive: true });
  const { FLYWHEEL_SERVER = "" } = env;
  const { status, stdout, stderr } = await repository.run(["build"], {
    env: { ...env, PATH: `${path.dirname(process.execPath)}:${env["PATH"] ?? ""}` },
    variables: { FLYWHEEL_SERVER, ...given },
  });
  if (status !== 0) throw new Error(`${stdout}${stderr}`);
}
