import { createHash } from "node:crypto";

import { isCacheError } from "@glorious/core";
import {
  createNarLister,
  createNarReader,
  formatNarListing,
  type NarEntry,
  parseNarListing,
  writeNar,
} from "@glorious/nix-store";

import type { Random } from "../../random.ts";
import { Finding, type FuzzTarget, openPlain } from "../fuzz-target.ts";
import { readFixtures } from "./fixtures.ts";

/** A string as a NAR has it: its length, its bytes, zeros up to a multiple of eight. */
function narString(text: string): Buffer {
  const bytes = Buffer.from(text);
  const encoded = Buffer.alloc(8 + Math.ceil(bytes.length / 8) * 8);
  encoded.writeUInt32LE(bytes.length);
  bytes.copy(encoded, 8);
  return encoded;
}

export const NAR_WORDS: readonly Buffer[] = [
  ...["nix-archive-1", "(", ")", "type", "regular", "executable", "", "contents", "directory"],
  ...["symlink", "target", "entry", "name", "node", "a", ".", "..", "a/b", "b~nix~case~hack~1"],
].map(narString);

/** What a NAR says, in an order that makes it again. */
function readEntries(nar: Buffer, pieceBytes: number): NarEntry[] {
  const entries: NarEntry[] = [];
  let contents: Buffer[] = [];
  const reader = createNarReader({
    directory: (path) => entries.push({ type: "directory", path }),
    symlink: (path, target) => entries.push({ type: "symlink", path, target: Buffer.from(target) }),
    regular(path, { executable, sizeBytes, narOffset }) {
      contents = [];
      entries.push({ type: "regular", path, executable, sizeBytes, contents });
      if (narOffset > nar.length) throw new Finding("A file starts behind the NAR's end");
    },
    contents: (chunk) => contents.push(Buffer.from(chunk)),
  });
  for (let at = 0; at < nar.length; at += pieceBytes) {
    reader.write(nar.subarray(at, at + pieceBytes));
  }
  reader.end();
  return entries;
}

/** The entries, or why there are none. */
function tryRead(nar: Buffer, pieceBytes: number): NarEntry[] | string {
  try {
    return readEntries(nar, pieceBytes);
  } catch (error) {
    if (isCacheError(error, "CORRUPT") || isCacheError(error, "TRUNCATED")) {
      return `${error.code} ${error.message}`;
    }
    throw error;
  }
}

/** Whether our reader takes the bytes for a NAR; every rule about that is checked on the way. */
async function checkNar(nar: Buffer): Promise<string> {
  const whole = tryRead(nar, Math.max(1, nar.length));
  for (const pieceBytes of [1, 7, 64]) {
    const cut = tryRead(nar, pieceBytes);
    if (typeof whole === "string" || typeof cut === "string") {
      if (cut !== whole) throw new Finding(`A NAR cut into pieces reads differently`);
    } else if (cut.length !== whole.length) throw new Finding("A cut NAR has other entries");
  }
  if (typeof whole === "string") return whole.split(" ")[0] ?? "";
  const again = Buffer.concat(await Array.fromAsync(writeNar(whole)));
  if (!again.equals(nar)) throw new Finding("A NAR that is accepted is not written the same again");
  checkListing(nar);
  return "accepted";
}

function checkListing(nar: Buffer): void {
  let text: string;
  try {
    const lister = createNarLister();
    lister.write(nar);
    text = formatNarListing(lister.end());
  } catch (error) {
    // Names that are no UTF-8 cannot stand in JSON.
    if (isCacheError(error)) return;
    throw error;
  }
  if (formatNarListing(parseNarListing(text)) !== text) {
    throw new Finding("A listing is not formatted the same again");
  }
}

export async function generateNar(random: Random): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(writeNar(generateTree(random, [], 3))));
}

function generateTree(random: Random, path: Buffer[], depth: number): NarEntry[] {
  const dice = random.next();
  if (dice < 0.2) {
    return [{ type: "symlink", path, target: Buffer.from(`../${"x".repeat(random.below(20))}`) }];
  }
  if (dice < 0.6 || depth === 0) {
    const contents = random.bytes(random.below(random.chance(0.1) ? 3000 : 40));
    const executable = random.chance(0.3);
    const sizeBytes = contents.length;
    return [{ type: "regular", path, executable, sizeBytes, contents: [contents] }];
  }
  const names = new Map<string, Buffer>();
  for (let count = random.below(5); count > 0; count -= 1) {
    const name = Buffer.from(random.pick(["a", "A", "b", "lib", ".x", "...", "é", "x y", "~"]));
    names.set(name.toString("hex"), name);
  }
  const sorted = [...names.values()].sort((a, b) => Buffer.compare(a, b));
  return [
    { type: "directory", path },
    ...sorted.flatMap((name) => generateTree(random, [...path, name], depth - 1)),
  ];
}

export const narTarget: FuzzTarget = {
  name: "nar",
  summary: "bytes as a NAR: refused with a code, or written the same again, however they are cut",
  seeds: async () => {
    const nars = await readFixtures(/\.nar$/);
    const distinct = new Map(
      nars.map((nar) => [createHash("sha256").update(nar).digest("hex"), nar]),
    );
    return [...distinct.values()];
  },
  dictionary: NAR_WORDS,
  maxBytes: 8192,
  guides: /\/nix-store\/src\/nar/,
  generate: generateNar,
  open: openPlain(checkNar),
};
