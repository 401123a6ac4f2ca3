import { unwatchFile, watchFile } from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";

import { CacheError, type Logger } from "@glorious/core";
import { parseTrustPolicy, type TrustPolicy } from "@glorious/trust";

/** The trust policy as its file has it. */
export interface PolicyFile extends Disposable {
  /** The last good one. */
  readonly policy: TrustPolicy;
  /** Another number after every change. */
  readonly version: number;
}

export interface PolicyFileOptions {
  readonly file: string;
  /** How often it is looked at: file events do not see what a Kubernetes ConfigMap does. */
  readonly reloadIntervalMs: number;
  readonly logger: Logger;
  /** Told of each good policy before it counts, the first included; `problem` of each bad one. */
  readonly onLoad: (policy: TrustPolicy) => Promise<void>;
  readonly onProblem: () => void;
}

/**
 * Reads a policy and again when it changes. A changed one that is bad is logged with all that is wrong, and the one
 * before stays.
 *
 * @throws {CacheError} `CONFIG` with everything that is wrong with the first one.
 */
export async function openPolicyFile(options: PolicyFileOptions): Promise<PolicyFile> {
  const { file, logger, onLoad } = options;
  let policy = await readPolicy(file, logger);
  await onLoad(policy);
  let version = 1;
  let reading = Promise.resolve();

  const reload = async (): Promise<void> => {
    try {
      const next = await readPolicy(file, logger);
      await onLoad(next);
      policy = next;
      version += 1;
      logger.info("took the changed policy into use", { file, version });
    } catch (error) {
      options.onProblem();
      logger.error("the changed policy is unusable; the one before stays", { file, error });
    }
  };
  const onChange = (): void => {
    reading = reading.then(reload);
  };
  watchFile(file, { interval: options.reloadIntervalMs, persistent: false }, onChange);
  return {
    get policy() {
      return policy;
    },
    get version() {
      return version;
    },
    [Symbol.dispose]: () => unwatchFile(file, onChange),
  };
}

async function readPolicy(file: string, logger: Logger): Promise<TrustPolicy> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (cause) {
    throw new CacheError("CONFIG", `The trust policy ${file} cannot be read`, {
      cause,
      hint: "Check trust.policyFile and the file's permissions.",
    });
  }
  const check = parseTrustPolicy(text);
  if (check.kind === "invalid") {
    const lines = check.problems.map(
      ({ place, message, hint }) => `${place === "" ? "document" : place}: ${message}. ${hint}`,
    );
    throw new CacheError(
      "CONFIG",
      [`The trust policy ${file} is unusable`, ...lines].join("\n  "),
      {
        hint: "`flywheel policy check FILE` says the same without a server.",
      },
    );
  }
  for (const { place, message, hint } of check.warnings) {
    logger.warn("the trust policy may not say what is meant", { file, place, message, hint });
  }
  // Relative to the policy, wherever the server was started.
  const issuers = check.policy.issuers.map((issuer) =>
    issuer.jwksFile === undefined
      ? issuer
      : { ...issuer, jwksFile: resolve(dirname(resolve(file)), issuer.jwksFile) },
  );
  return { ...check.policy, issuers };
}
