import { isUtf8 } from "node:buffer";
import { mkdir, rm, writeFile } from "node:fs/promises";
import path from "node:path";

import { isCacheError } from "@glorious/core";
import {
  formatHash,
  formatNarInfo,
  type NarInfo,
  parseHash,
  parseNarInfo,
  parseSignature,
} from "@glorious/nix-store";
import type { NixVersion } from "@glorious/testkit";

import { Finding, type FuzzTarget } from "../fuzz-target.ts";
import { generateNarInfo, NARINFO_WORDS, narInfoTarget } from "./narinfo.ts";
import { openNixRuns } from "./nix-runs.ts";

/** What the parser says, or why it refuses. */
function read(text: string): NarInfo | string {
  try {
    return parseNarInfo(text);
  } catch (error) {
    if (isCacheError(error, "CORRUPT")) return error.message;
    throw error;
  }
}

/** Where our parser is stricter than Nix on purpose; its documentation names them. */
const STRICTER = [
  /appears twice/,
  /is not "Key: value"/,
  /no newline/,
  /control character/,
  /stray spaces/,
  /Hash/,
  /CA: /,
  /Size/,
  /empty Sig/,
  /StorePath|References|Deriver/,
  /is missing/,
];

/** What only newer Nix refuses: signatures, which the server looks at on its own before it stores them. */
const LAXER = [/Base64|signature/i];

interface NixPathInfo {
  readonly narHash: string | Readonly<Record<string, string>>;
  readonly narSize: number;
  readonly references: readonly string[];
  readonly deriver?: string | null;
  readonly signatures?: readonly string[];
}

/** The one path of `nix path-info --json`, whose shape differs between versions. */
function findPathInfo(json: string): NixPathInfo | undefined {
  const search = (value: unknown): NixPathInfo | undefined => {
    if (typeof value !== "object" || value === null) return undefined;
    if ("narSize" in value && "narHash" in value) return value as NixPathInfo;
    for (const child of Object.values(value)) {
      const found = search(child);
      if (found !== undefined) return found;
    }
    return undefined;
  };
  return search(JSON.parse(json));
}

function baseName(storePath: string): string {
  return storePath.slice(storePath.lastIndexOf("/") + 1);
}

function summarize(
  narHash: string,
  narSize: number,
  references: readonly string[],
  deriver: string | undefined,
  signatures: readonly string[],
): string {
  // Newer Nix tidies up what is no signature.
  const sets = [references, signatures.filter(isSignature)].map((values) =>
    [...new Set(values)].sort().join(" "),
  );
  return [narHash, narSize, deriver ?? "", ...sets].join("\n");
}

function summarizeNix(info: NixPathInfo): string {
  const hash =
    typeof info.narHash === "string" ? info.narHash : `sha256:${info.narHash["hash"] ?? ""}`;
  return summarize(
    formatHash(parseHash(hash, "sha256"), "base16"),
    info.narSize,
    info.references.map(baseName),
    info.deriver == null ? undefined : baseName(info.deriver),
    info.signatures ?? [],
  );
}

function summarizeOurs(info: NarInfo): string {
  return summarize(
    formatHash(info.narHash, "base16"),
    info.narSize,
    info.references,
    info.deriver,
    info.signatures,
  );
}

export const narInfoNixTarget: FuzzTarget = {
  name: "narinfo-nix",
  summary: "text as a narinfo, beside `nix path-info` of every Nix: what we take it takes, alike",
  seeds: narInfoTarget.seeds,
  dictionary: NARINFO_WORDS,
  maxBytes: 4096,
  guides: narInfoTarget.guides,
  generate: generateNarInfo,
  concurrency: 2,
  isForeign: true,
  async open() {
    const runs = await openNixRuns();
    if ("missing" in runs) return runs;
    /** What a Nix reads at a path of a cache that holds this narinfo; its complaint when it reads nothing. */
    const ask = async (
      nix: NixVersion,
      storePath: string,
      text: Buffer | string,
    ): Promise<Answer> => {
      const cache = runs.fresh();
      await mkdir(cache);
      await writeFile(path.join(cache, "nix-cache-info"), "StoreDir: /nix/store\n");
      await writeFile(path.join(cache, `${baseName(storePath).slice(0, 32)}.narinfo`), text);
      const features = ["--extra-experimental-features", "nix-command"];
      const args = ["path-info", ...features, "--json", "--store", `file://${cache}`, storePath];
      const said = await runs.run(nix, "nix", args);
      await rm(cache, { recursive: true });
      const info = said?.status === 0 ? findPathInfo(said.stdout) : undefined;
      return info ?? said?.stderr.split("\n")[0] ?? "it did not end";
    };

    const checkServed = async (info: NarInfo): Promise<void> => {
      const served = { ...info, signatures: info.signatures.filter(isSignature) };
      for (const nix of runs.versions) {
        const theirs = await ask(nix, info.storePath, formatNarInfo(served));
        if (typeof theirs === "string") {
          throw new Finding(`Nix ${nix.version} refuses what we would serve: ${theirs}`);
        }
        if (summarizeNix(theirs) !== summarizeOurs(served)) {
          throw new Finding(`Nix ${nix.version} reads what we would serve differently`);
        }
      }
    };

    return {
      async run(input) {
        const text = input.toString("utf8");
        const ours = read(text);
        const named = /\/nix\/store\/([0-9a-z]{32})-[\w+\-.?=]+/.exec(text)?.[0];
        const storePath = typeof ours === "string" ? named : ours.storePath;
        // Nix must be asked about some path; asked about a derivation it looks for its outputs, and what is
        // not UTF-8 it cannot answer in JSON.
        const isAskable =
          storePath?.startsWith("/nix/store/") === true &&
          !storePath.endsWith(".drv") &&
          isUtf8(input);
        if (!isAskable) return "not asked";
        if (typeof ours !== "string") await checkServed(ours);
        let [stricter, laxer] = [0, 0];
        for (const nix of runs.versions) {
          const theirs = await ask(nix, storePath, input);
          if (typeof ours === "string") {
            if (typeof theirs === "string") continue;
            if (!STRICTER.some((pattern) => pattern.test(ours))) {
              throw new Finding(`Nix ${nix.version} takes a narinfo that we refuse: ${ours}`);
            }
            stricter += 1;
          } else if (typeof theirs === "string") {
            if (!LAXER.some((pattern) => pattern.test(theirs))) {
              throw new Finding(`Nix ${nix.version} refuses a narinfo that we take: ${theirs}`);
            }
            laxer += 1;
          } else if (summarizeNix(theirs) !== summarizeOurs(ours)) {
            throw new Finding(`Nix ${nix.version} reads a narinfo differently`);
          }
        }
        if (stricter > 0) return "stricter";
        if (laxer > 0) return "laxer";
        return typeof ours === "string" ? "refused" : "accepted";
      },
      [Symbol.asyncDispose]: () => runs[Symbol.asyncDispose](),
    };
  },
};

type Answer = NixPathInfo | string;

function isSignature(text: string): boolean {
  try {
    parseSignature(text);
    return true;
  } catch {
    return false;
  }
}
