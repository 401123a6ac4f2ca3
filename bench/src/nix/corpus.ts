import { mkdir, readFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { findNixVersions } from "@glorious/testkit";

import { output } from "../command.ts";
import { cacheDirectory } from "../machine.ts";

/** A generated closure in this machine's Nix store. */
export interface Corpus {
  readonly top: string;
  /** Every path of the closure. */
  readonly paths: readonly string[];
  readonly narBytes: number;
}

export interface CorpusSize {
  readonly count: number;
  readonly maxKiB: number;
}

const EXPRESSION = fileURLToPath(new URL("corpus.nix", import.meta.url));

/** Builds the closure, or finds it where an earlier run built it: a root in the cache folder keeps it. */
export async function openCorpus(size: CorpusSize, rev: string, keep: boolean): Promise<Corpus> {
  const arguments_ = [
    "--arg",
    "count",
    String(size.count),
    "--arg",
    "maxKiB",
    String(size.maxKiB),
    "--argstr",
    "rev",
    rev,
  ];
  const root = path.join(cacheDirectory(), "bench", `corpus-${size.count}-${size.maxKiB}-${rev}`);
  await mkdir(path.dirname(root), { recursive: true });
  const link = keep ? ["--out-link", root] : ["--no-out-link"];
  return describe(await build([EXPRESSION, ...arguments_, ...link]));
}

/** One path with a file of `mib` MiB that does not compress. */
export async function openLargePath(mib: number): Promise<Corpus> {
  const expression = `builtins.derivation { name = "large-${mib}"; system = builtins.currentSystem; builder = "/bin/sh";
    PATH = "/usr/bin:/bin"; args = [ "-c" "openssl enc -aes-128-ctr -nosalt -pbkdf2 -iter 1 -pass pass:large </dev/zero 2>/dev/null | head -c ${mib * 2 ** 20} >$out" ]; }`;
  const root = path.join(cacheDirectory(), "bench", `large-${mib}`);
  await mkdir(path.dirname(root), { recursive: true });
  return describe(await build(["--expr", expression, "--out-link", root]));
}

async function build(arguments_: readonly string[]): Promise<string> {
  // The oldest: newer ones warn, and all of them build the same.
  const nix = findNixVersions()[0];
  if (nix === undefined) throw new Error("There is no Nix here");
  const text = await output(
    path.join(nix.binDirectory, "nix-build"),
    [
      "-j",
      "2",
      "--option",
      "sandbox",
      "false",
      "--option",
      "build-users-group",
      "",
      "--option",
      "substituters",
      "",
      "--quiet",
      ...arguments_,
    ],
    { env: nixEnvironment() },
  );
  return text.trim();
}

async function describe(top: string): Promise<Corpus> {
  const nix = findNixVersions()[0];
  if (nix === undefined) throw new Error("There is no Nix here");
  const store = path.join(nix.binDirectory, "nix-store");
  const closure = (await output(store, ["-qR", top], { env: nixEnvironment() })).trim().split("\n");
  const sizes = (await output(store, ["-q", "--size", ...closure], { env: nixEnvironment() }))
    .trim()
    .split("\n");
  return { top, paths: closure, narBytes: sizes.reduce((sum, size) => sum + Number(size), 0) };
}

function nixEnvironment(): Readonly<Record<string, string | undefined>> {
  return { ...process.env, NIX_REMOTE: "" };
}

/** Some of what is in the paths, to measure the machine with. */
export async function readSample(corpus: Corpus): Promise<Buffer> {
  const parts: Buffer[] = [];
  let sizeBytes = 0;
  for (const storePath of corpus.paths) {
    for (const name of ["noise", "text"]) {
      const part = await readFile(path.join(storePath, name)).catch(() => Buffer.alloc(0));
      parts.push(part);
      sizeBytes += part.length;
    }
    if (sizeBytes > 96 * 2 ** 20) break;
  }
  return Buffer.concat(parts);
}
