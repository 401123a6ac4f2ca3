import { CacheError } from "@glorious/core";
import {
  formatRealisationId,
  parseBuildTraceEntry,
  parseBuildTraceKey,
  parseRealisation,
  parseRealisationId,
} from "@glorious/nix-store";

/** @throws {CacheError} `INVALID` for a wrong name, `CORRUPT` for a body that is no realisation of that name. */
export function requireRealisation(body: Buffer, name: string): void {
  const id = formatRealisationId(parseRealisationId(name));
  const realisation = parseRealisation(body.toString("utf8"));
  if (formatRealisationId(realisation.id) !== id) {
    throw new CacheError(
      "CORRUPT",
      `The realisation ${name} is about ${formatRealisationId(realisation.id)}`,
    );
  }
}

/** @throws {CacheError} `INVALID` for a wrong name, `CORRUPT` for a body that is no build trace entry. */
export function requireBuildTrace(body: Buffer, name: string): void {
  const [drvPath = "", outputName = ""] = name.split("/");
  parseBuildTraceKey(drvPath, outputName);
  parseBuildTraceEntry(body.toString("utf8"));
}
