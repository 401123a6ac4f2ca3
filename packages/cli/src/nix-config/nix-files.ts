import { constants } from "node:fs";
import { access, lstat, stat } from "node:fs/promises";
import { dirname, isAbsolute, join, resolve } from "node:path";

import { readState, readUserText } from "@glorious/cache-client";
import { CacheError } from "@glorious/core";

import type { CliContext } from "../cli-context.ts";
import { configHome } from "../user-folders.ts";
import { parseNixConf } from "./nix-conf.ts";
import { fromNixConfPath } from "./plan-use.ts";

/** Whose Nix is configured. */
export type NixScope = "user" | "system";

/**
 * The nix.conf that `use` writes: the one Nix reads last in that scope.
 *
 * @throws {CacheError} `CONFIG` when Nix was told to read none of the user's.
 */
export function nixConfPath(scope: NixScope, context: CliContext): string {
  if (scope === "system") return join(systemFolder(context), "nix.conf");
  const [path] = userConfPaths(context);
  if (path !== undefined) return path;
  throw new CacheError("CONFIG", "NIX_USER_CONF_FILES is empty: Nix reads no file of yours", {
    hint: "Unset it, or configure the whole machine with --system.",
  });
}

/** Every nix.conf in force in a scope, files they include among them, without our own blocks. */
export async function readNixConfTexts(scope: NixScope, context: CliContext): Promise<string[]> {
  const paths = [nixConfPath("system", context)];
  // Nix reads the first of them last.
  if (scope === "user") paths.push(...userConfPaths(context).toReversed());
  const texts: string[] = [];
  for (const path of paths) texts.push(await readWithIncludes(path, 0));
  return texts;
}

/** Where tokens go, and whether nix.conf has to say so. */
export interface NetrcChoice {
  readonly path: string;
  readonly setsNetrcFile: boolean;
  readonly warnings: readonly string[];
}

/**
 * Decides which netrc file gets the token: the one Nix reads already when it can be written, because
 * Nix reads only one; else one of our own.
 */
export async function chooseNetrc(
  scope: NixScope,
  texts: readonly string[],
  context: CliContext,
): Promise<NetrcChoice> {
  const named = texts
    .flatMap((text) => parseNixConf(text))
    .findLast((entry) => "name" in entry && entry.name === "netrc-file");
  const isNamed = named !== undefined && "value" in named && isAbsolute(named.value);
  const present = isNamed ? fromNixConfPath(named.value) : join(systemFolder(context), "netrc");
  const state = await probe(present);
  if (scope === "system" || state === "writable" || (isNamed && state === "creatable")) {
    return { path: present, setsNetrcFile: false, warnings: await describeRights(present) };
  }
  const own = join(dirname(nixConfPath("user", context)), "netrc");
  return {
    path: own,
    setsNetrcFile: true,
    warnings:
      state === "forbidden"
        ? [
            `You may not write ${present}, so Nix now reads ${own} instead, and no longer ${present} when it runs for you. Copy the entries you need.`,
          ]
        : [],
  };
}

/** Says when Nix will not heed what a user configures for themselves. */
export async function describeDaemon(scope: NixScope, context: CliContext): Promise<string[]> {
  if (scope === "system" || context.userId === 0) return [];
  const socket = context.env["NIX_DAEMON_SOCKET_PATH"] ?? "/nix/var/nix/daemon-socket/socket";
  const exists = await stat(socket).then(
    () => true,
    () => false,
  );
  return exists
    ? [
        "Nix runs as a daemon here and heeds these settings only from users named in its trusted-users. If it does not trust you, run `sudo flywheel use --system` instead.",
      ]
    : [];
}

function systemFolder(context: CliContext): string {
  return context.env["NIX_CONF_DIR"] ?? "/etc/nix";
}

function userConfPaths(context: CliContext): string[] {
  const { env } = context;
  const named = env["NIX_USER_CONF_FILES"];
  if (named !== undefined) return named.split(":").filter((path) => path !== "");
  const others = (env["XDG_CONFIG_DIRS"] ?? "/etc/xdg").split(":").filter((path) => path !== "");
  return [configHome(env), ...others].map((folder) => join(folder, "nix", "nix.conf"));
}

// Deeper than anybody nests files, so a file that includes itself ends.
const MAX_DEPTH = 8;

async function readWithIncludes(path: string, depth: number): Promise<string> {
  const state = await readState(path).catch(() => undefined);
  if (state?.text === undefined || depth > MAX_DEPTH) return "";
  const lines: string[] = [];
  for (const line of readUserText(state, "flywheel use").split("\n")) {
    lines.push(line);
    for (const entry of parseNixConf(line)) {
      if (!("include" in entry)) continue;
      lines.push(
        await readWithIncludes(resolve(dirname(path), fromNixConfPath(entry.include)), depth + 1),
      );
    }
  }
  return lines.join("\n");
}

type FileRights = "writable" | "creatable" | "absent" | "forbidden";

async function probe(path: string): Promise<FileRights> {
  const may = async (target: string, mode: number): Promise<boolean> =>
    access(target, mode).then(
      () => true,
      () => false,
    );
  const isPresent = await lstat(path).then(
    () => true,
    (error: NodeJS.ErrnoException) => error.code !== "ENOENT" && error.code !== "ENOTDIR",
  );
  if (isPresent) {
    const isOpen = await may(path, constants.R_OK | constants.W_OK);
    return isOpen && (await may(dirname(path), constants.W_OK)) ? "writable" : "forbidden";
  }
  return (await may(dirname(path), constants.W_OK)) ? "creatable" : "absent";
}

async function describeRights(path: string): Promise<string[]> {
  const found = await stat(path).catch(() => undefined);
  if (found === undefined || (found.mode & 0o077) === 0) return [];
  return [`${path} can be read by other users of this machine: so can the token in it now.`];
}
