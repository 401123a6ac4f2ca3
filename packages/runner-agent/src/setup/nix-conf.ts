import { userInfo } from "node:os";
import { join } from "node:path";

/** What a session's nix.conf says. */
export interface SessionNixConf {
  /** The face's address; `undefined`: Nix reads nothing from us. */
  readonly substituter?: string | undefined;
  readonly publicKeys: readonly string[];
  readonly priority?: number | undefined;
  /** The program that Nix runs after each build. */
  readonly hook?: string | undefined;
}

/**
 * The text of a session's nix.conf. Substituter and keys come together, and with them what keeps a build going when
 * the agent is gone.
 */
export function formatNixConf(conf: SessionNixConf): string {
  const { substituter, publicKeys, priority, hook } = conf;
  const lines = ["# `flywheel setup` wrote this for one job."];
  if (substituter !== undefined) {
    const query = priority === undefined ? "" : `?priority=${priority}`;
    lines.push(
      `extra-substituters = ${substituter}${query}`,
      ...(publicKeys.length === 0 ? [] : [`extra-trusted-public-keys = ${publicKeys.join(" ")}`]),
      "fallback = true",
      "connect-timeout = 5",
      "stalled-download-timeout = 30",
      "download-attempts = 3",
      // What an agent lacked the next one may have.
      "narinfo-cache-negative-ttl = 0",
    );
  }
  if (hook !== undefined) lines.push(`post-build-hook = ${hook}`);
  return lines.map((line) => `${line}\n`).join("");
}

type Environment = Readonly<Record<string, string | undefined>>;

/** `NIX_USER_CONF_FILES` with one file more, which counts before the user's own. */
export function prependUserConf(file: string, env: Environment): string {
  const named = env["NIX_USER_CONF_FILES"];
  if (named !== undefined) {
    return [file, ...named.split(":").filter((path) => path !== "" && path !== file)].join(":");
  }
  const home = env["HOME"] || accountHome();
  const folders = [
    env["XDG_CONFIG_HOME"] || (home === undefined ? "" : join(home, ".config")),
    ...(env["XDG_CONFIG_DIRS"] || "/etc/xdg").split(":"),
  ];
  const own = folders
    .filter((folder) => folder !== "")
    .map((folder) => join(folder, "nix/nix.conf"));
  return [file, ...own].join(":");
}

/** The home of the account, where Nix looks as well; containers run as users that have none. */
function accountHome(): string | undefined {
  try {
    return userInfo().homedir;
  } catch {
    return undefined;
  }
}
