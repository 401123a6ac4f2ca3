import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";

type Environment = Readonly<Record<string, string | undefined>>;

/** Where the user's configuration lives. */
export function configHome(env: Environment): string {
  return xdgFolder(env["XDG_CONFIG_HOME"]) ?? join(homeFolder(env), ".config");
}

/** Where the user's own data lives, whatever folder a command is called in. */
export function dataHome(env: Environment): string {
  return xdgFolder(env["XDG_DATA_HOME"]) ?? join(homeFolder(env), ".local", "share");
}

/** Relative values are void by the standard. */
function xdgFolder(folder: string | undefined): string | undefined {
  return folder !== undefined && isAbsolute(folder) ? folder : undefined;
}

/** The user's home folder, as Nix finds it. */
export function homeFolder(env: Environment): string {
  const home = env["HOME"];
  return home !== undefined && home !== "" ? home : homedir();
}

/** How `~` would write the path, for messages. */
export function abbreviate(path: string, env: Environment): string {
  const home = homeFolder(env);
  return path.startsWith(`${home}/`) ? `~${path.slice(home.length)}` : path;
}
