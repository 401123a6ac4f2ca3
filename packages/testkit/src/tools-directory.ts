import { homedir } from "node:os";
import path from "node:path";

/** Where `pnpm tools` and the set-up of the tests keep what they bring. */
export function toolsDirectory(): string {
  const base = process.env["XDG_CACHE_HOME"];
  const cache = base !== undefined && path.isAbsolute(base) ? base : path.join(homedir(), ".cache");
  return path.join(cache, "gloriousflywheel", "tools");
}

/** Why the set-up of this test run could not bring a tool; `undefined` when it said nothing. */
export function missingToolReason(name: string): string | undefined {
  const told: unknown = JSON.parse(process.env["GLORIOUS_MISSING_TOOLS"] ?? "{}");
  const reason: unknown = new Map<string, unknown>(Object.entries(told ?? {})).get(name);
  return typeof reason === "string" ? reason : undefined;
}
