import { createHash } from "node:crypto";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";

import type { Logger } from "@glorious/core";
import * as v from "valibot";

import { writeSecretFile } from "../secret-file.ts";
import type { KeyShelf } from "./issuer-keys.ts";

const Kept = v.object({ issuer: v.string(), fetchedAtMs: v.number(), text: v.string() });

/** Keeps the keys of each issuer in a file. What cannot be read or written is logged and otherwise as if absent. */
export function createKeyShelf(directory: string, logger: Logger): KeyShelf {
  const fileOf = (issuer: string): string =>
    join(directory, `${createHash("sha256").update(issuer).digest("hex").slice(0, 32)}.json`);
  return {
    async load(issuer) {
      try {
        const kept = v.parse(Kept, JSON.parse(await readFile(fileOf(issuer), "utf8")));
        return kept.issuer === issuer ? kept : undefined;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ENOENT") {
          logger.warn("the kept keys of an issuer cannot be read", { issuer, error });
        }
        return undefined;
      }
    },
    async save(issuer, { text, fetchedAtMs }) {
      try {
        await mkdir(directory, { recursive: true, mode: 0o700 });
        // Nobody else may write there: these keys decide who is believed.
        await writeSecretFile(fileOf(issuer), JSON.stringify({ issuer, fetchedAtMs, text }));
      } catch (error) {
        logger.warn("an issuer's keys cannot be kept", { issuer, error });
      }
    },
  };
}
