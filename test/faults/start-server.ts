import { type RunningFlywheel, startFlywheel } from "@glorious/testkit";

import type { Random } from "../random.ts";
import { buildRecorder } from "./recorder/build-recorder.ts";
import type { Target } from "./traffic/clients.ts";

/** What the preloaded recorder is to do; see its source. */
export interface RecorderOptions {
  /** Below it everything is recorded and faults are injected. */
  readonly root: string;
  readonly logFile?: string;
  /** Flushes are recorded, not carried out, and take up to this long; default 2000. */
  readonly flushUs?: number;
  /** Lines of `action|operation|pattern|nth`. */
  readonly rules?: readonly string[];
  /** The rules count only while this file exists. */
  readonly whileFile?: string;
}

export interface ServerOptions {
  readonly dataDirectory: string;
  readonly listen?: string;
  readonly random: Random;
  readonly recorder?: RecorderOptions | undefined;
  /** Further settings, as environment variables. */
  readonly env?: Readonly<Record<string, string>>;
}

/** A server in a process of its own, with what clients need. */
export interface TestedServer extends AsyncDisposable {
  readonly flywheel: RunningFlywheel;
  readonly target: Target & { readonly publicKey: string };
  /** kill -9, and its end. */
  crash(): Promise<void>;
}

/** @throws {Error} when it does not come up, or when the recorder is wanted and cannot be built. */
export async function startServer(options: ServerOptions): Promise<TestedServer> {
  const flywheel = await startFlywheel({
    dataDirectory: options.dataDirectory,
    ...(options.listen === undefined ? {} : { listen: options.listen }),
    env: {
      FLYWHEEL_LOG_LEVEL: "warn",
      FLYWHEEL_LOG_REQUESTS: "false",
      ...(await recorderEnvironment(options)),
      ...options.env,
    },
  });
  const { url, view, publicKey } = flywheel;
  return {
    flywheel,
    target: { url, view, publicKey, token: await flywheel.readToken() },
    async crash() {
      flywheel.kill("SIGKILL");
      await flywheel.exited;
    },
    [Symbol.asyncDispose]: () => flywheel[Symbol.asyncDispose](),
  };
}

async function recorderEnvironment({
  recorder,
  random,
}: ServerOptions): Promise<Record<string, string>> {
  if (recorder === undefined) return {};
  const built = await buildRecorder();
  if ("missing" in built) throw new Error(built.missing);
  const { root, logFile, flushUs = 2000, rules = [], whileFile } = recorder;
  return {
    LD_PRELOAD: built.library,
    FAULTS_ROOT: root,
    FAULTS_SKIP_SYNC: "1",
    FAULTS_SYNC_US: String(flushUs),
    FAULTS_SEED: String(random.below(2 ** 31)),
    ...(logFile === undefined ? {} : { FAULTS_LOG: logFile }),
    ...(rules.length === 0 ? {} : { FAULTS_RULES: rules.join("\n") }),
    ...(whileFile === undefined ? {} : { FAULTS_WHILE: whileFile }),
  };
}
