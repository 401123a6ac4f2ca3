import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";

type Environment = Readonly<Record<string, string | undefined>>;

/** Where the user's configuration lives; relative values of XDG_CONFIG_HOME are void by its standard. */
export function configHome(env: Environment): string {
  const folder = env["XDG_CONFIG_HOME"];
  return folder !== undefined && isAbsolute(folder) ? folder : join(homeFolder(env), ".config");
}

/** The user's home folder, as Nix finds it. */
export function homeFolder(env: Environment): string {
  const home = env["HOME"];
  return home !== undefined && home !== "" ? home : homedir();
}
