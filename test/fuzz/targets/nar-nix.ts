import { rm } from "node:fs/promises";

import { dumpStorePath } from "@glorious/cache-client";
import { isCacheError } from "@glorious/core";
import { createNarReader } from "@glorious/nix-store";

import { Finding, type FuzzTarget } from "../fuzz-target.ts";
import { generateNar, NAR_WORDS, narTarget } from "./nar.ts";
import { openNixRuns } from "./nix-runs.ts";

/** Where our reader is stricter than some Nix on purpose; its documentation names them. */
const STRICTER = [/padding/, /order/, /^a name |^an entry/, /target/, /nested/, /follow its end/];

/** Our reader's verdict: `undefined` when it takes the NAR, otherwise its reason. */
function refusal(nar: Buffer): string | undefined {
  try {
    const reader = createNarReader({});
    reader.write(nar);
    reader.end();
    return undefined;
  } catch (error) {
    if (!isCacheError(error)) throw error;
    return error.code === "TRUNCATED" ? "truncated" : error.message.replace(/^[^:]*: /, "");
  }
}

async function dump(realPath: string): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(dumpStorePath(realPath)));
}

export const narNixTarget: FuzzTarget = {
  name: "nar-nix",
  summary:
    "bytes as a NAR, beside `nix-store --restore` of every Nix: what we take it takes, alike",
  seeds: narTarget.seeds,
  dictionary: NAR_WORDS,
  maxBytes: 4096,
  guides: narTarget.guides,
  generate: generateNar,
  concurrency: 2,
  isForeign: true,
  async open() {
    const runs = await openNixRuns();
    if ("missing" in runs) return runs;
    return {
      async run(input) {
        const reason = refusal(input);
        const stricterThan: string[] = [];
        for (const nix of runs.versions) {
          const target = runs.fresh();
          const said = await runs.run(nix, "nix-store", ["--restore", target], input);
          const status = said?.status ?? 1;
          try {
            if (reason === undefined && status !== 0) {
              throw new Finding(`A NAR is accepted that Nix ${nix.version} refuses`);
            }
            if (reason === undefined && !(await dump(target)).equals(input)) {
              throw new Finding(`A NAR comes out of Nix ${nix.version} as another`);
            }
            if (reason !== undefined && status === 0) {
              if (!STRICTER.some((pattern) => pattern.test(reason))) {
                throw new Finding(`Nix ${nix.version} takes a NAR that we refuse: ${reason}`);
              }
              stricterThan.push(nix.version);
            }
          } finally {
            await rm(target, { recursive: true, force: true });
          }
        }
        if (stricterThan.length > 0) return `stricter than ${stricterThan.join(", ")}`;
        return reason === undefined ? "accepted" : "refused";
      },
      [Symbol.asyncDispose]: () => runs[Symbol.asyncDispose](),
    };
  },
};
