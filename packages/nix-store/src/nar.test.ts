import fc from "fast-check";
import { describe, expect, test } from "vitest";

import {
  createNarLister,
  createNarReader,
  formatNarListing,
  type NarEntry,
  type NarHandler,
  type NarListingNode,
  parseNarListing,
  writeNar,
} from "./index.ts";

type Tree =
  | { readonly kind: "regular"; readonly executable: boolean; readonly contents: Uint8Array }
  | { readonly kind: "symlink"; readonly target: Uint8Array }
  | { readonly kind: "directory"; readonly children: readonly (readonly [Uint8Array, Tree])[] };

const nameBytes = fc
  .uint8Array({ minLength: 1, maxLength: 20 })
  .filter((name) => !name.includes(0) && !name.includes(0x2f))
  .filter((name) => !["." as string, ".."].includes(Buffer.from(name).toString("latin1")));
const textName = fc
  .constantFrom("a", "a-", "a.b", "A", "é", "\u{1f30d}", "\ufffd", "10", "9", "__proto__", '"\\\n')
  .map((name) => new Uint8Array(Buffer.from(name)));

/** Trees whose names and targets come from one source of non-empty byte strings. */
function trees(name: fc.Arbitrary<Uint8Array>): fc.Arbitrary<Tree> {
  return fc.letrec<{ tree: Tree }>((tie) => ({
    tree: fc.oneof(
      { depthSize: "small" },
      fc.record({
        kind: fc.constant("regular" as const),
        executable: fc.boolean(),
        contents: fc.uint8Array({ maxLength: 40 }),
      }),
      fc.record({ kind: fc.constant("symlink" as const), target: name }),
      fc.record({
        kind: fc.constant("directory" as const),
        children: fc
          .uniqueArray(fc.tuple(name, tie("tree")), {
            maxLength: 5,
            selector: ([bytes]) => Buffer.from(bytes).toString("hex"),
          })
          .map((children) => children.sort(([a], [b]) => Buffer.compare(a, b))),
      }),
    ),
  })).tree;
}

/** The plainest NAR encoder there can be: what the real one is compared with. */
function plainNar(tree: Tree): Buffer {
  return Buffer.concat([str("nix-archive-1"), plainNode(tree)]);
}

function plainNode(tree: Tree): Buffer {
  if (tree.kind === "symlink") return strs("(", "type", "symlink", "target", tree.target, ")");
  if (tree.kind === "regular") {
    const mark = tree.executable ? ["executable", ""] : [];
    return strs("(", "type", "regular", ...mark, "contents", tree.contents, ")");
  }
  const entries = tree.children.map(([name, child]) =>
    Buffer.concat([strs("entry", "(", "name", name, "node"), plainNode(child), str(")")]),
  );
  return Buffer.concat([strs("(", "type", "directory"), ...entries, str(")")]);
}

function strs(...texts: readonly (string | Uint8Array)[]): Buffer {
  return Buffer.concat(texts.map(str));
}

function str(text: string | Uint8Array): Buffer {
  const bytes = Buffer.from(text);
  const padding = Buffer.alloc((8 - (bytes.length % 8)) % 8);
  return Buffer.concat([u64(BigInt(bytes.length)), bytes, padding]);
}

function u64(value: bigint): Buffer {
  const encoded = Buffer.alloc(8);
  encoded.writeBigUInt64LE(value);
  return encoded;
}

/** The same bytes with one of them, a zero, set. */
function flipped(nar: Buffer, at: number): Buffer {
  if (nar[at] !== 0) throw new Error("this byte is no padding");
  const copy = Buffer.from(nar);
  copy[at] = 1;
  return copy;
}

function* entriesOf(tree: Tree, cuts: readonly number[], path: Buffer[] = []): Generator<NarEntry> {
  if (tree.kind === "symlink") {
    yield { type: "symlink", path, target: Buffer.from(tree.target) };
  } else if (tree.kind === "regular") {
    const { executable } = tree;
    const contents = pieces(Buffer.from(tree.contents), cuts);
    yield { type: "regular", path, executable, sizeBytes: tree.contents.length, contents };
  } else {
    yield { type: "directory", path };
    for (const [name, child] of tree.children) {
      yield* entriesOf(child, cuts, [...path, Buffer.from(name)]);
    }
  }
}

/** Reads the tree back through a listing, its contents from where the listing says they lie. */
function treeOf(node: NarListingNode, nar: Buffer): Tree {
  if (node.type === "symlink") {
    return { kind: "symlink", target: new Uint8Array(Buffer.from(node.target)) };
  }
  if (node.type === "regular") {
    const start = node.narOffset ?? nar.length;
    const contents = new Uint8Array(nar.subarray(start, start + node.sizeBytes));
    return { kind: "regular", executable: node.executable, contents };
  }
  const children = [...node.entries].map(
    ([name, child]) => [new Uint8Array(Buffer.from(name)), treeOf(child, nar)] as const,
  );
  return { kind: "directory", children };
}

/** Cuts bytes into pieces whose lengths are the `cuts`, over and over. */
function pieces(bytes: Buffer, cuts: readonly number[]): Buffer[] {
  const result: Buffer[] = [];
  for (let at = 0, turn = 0; at < bytes.length; turn += 1) {
    const length = cuts[turn % cuts.length] ?? bytes.length;
    result.push(bytes.subarray(at, at + length));
    at += length;
  }
  return result;
}

/** Rebuilds the tree from a reader's events. */
class TreeBuilder implements NarHandler {
  #stack: [Uint8Array, Tree][][] = [];
  #contents: Buffer[] = [];
  #executable = false;
  #path: readonly Buffer[] = [];
  root: Tree | undefined;

  directory(path: readonly Buffer[]): void {
    const children: [Uint8Array, Tree][] = [];
    this.#put(path, { kind: "directory", children });
    this.#stack.push(children);
  }
  endDirectory(): void {
    this.#stack.pop();
  }
  symlink(path: readonly Buffer[], target: Buffer): void {
    this.#put(path, { kind: "symlink", target: new Uint8Array(target) });
  }
  regular(path: readonly Buffer[], file: { executable: boolean }): void {
    this.#path = path;
    this.#contents = [];
    this.#executable = file.executable;
  }
  contents(chunk: Uint8Array): void {
    this.#contents.push(Buffer.from(chunk));
  }
  endRegular(): void {
    const contents = new Uint8Array(Buffer.concat(this.#contents));
    this.#put(this.#path, { kind: "regular", executable: this.#executable, contents });
  }
  #put(path: readonly Buffer[], tree: Tree): void {
    if (path.length !== this.#stack.length) throw new Error("a path of the wrong depth");
    const name = path.at(-1);
    if (name === undefined) this.root = tree;
    else this.#stack.at(-1)?.push([new Uint8Array(name), tree]);
  }
}

async function write(entries: Iterable<NarEntry> | AsyncIterable<NarEntry>): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(writeNar(entries)));
}

function directoryOf(...names: readonly Buffer[]): Promise<Buffer> {
  return write([ROOT, ...names.map((name) => file([name]))]);
}

function read(nar: Buffer): void {
  const reader = createNarReader({});
  reader.write(nar);
  reader.end();
}

const cutsArbitrary = fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 4 });
const path = (...names: readonly string[]): Buffer[] => names.map((name) => Buffer.from(name));
const file = (at: readonly Buffer[], text = "", sizeBytes = text.length): NarEntry => ({
  type: "regular",
  path: at,
  executable: false,
  sizeBytes,
  contents: [Buffer.from(text)],
});
const ROOT: NarEntry = { type: "directory", path: [] };

test("any tree is written as the plain encoder writes it, however its contents are cut", async () => {
  await fc.assert(
    fc.asyncProperty(trees(nameBytes), cutsArbitrary, async (tree, cuts) => {
      expect((await write(entriesOf(tree, cuts))).equals(plainNar(tree))).toBe(true);
    }),
  );
});

test("any NAR is read back as its tree, however it is cut", () => {
  fc.assert(
    fc.property(trees(nameBytes), cutsArbitrary, (tree, cuts) => {
      const builder = new TreeBuilder();
      const reader = createNarReader(builder);
      for (const piece of pieces(plainNar(tree), cuts)) {
        expect(reader.done).toBe(false);
        reader.write(new Uint8Array(piece));
      }
      reader.end();
      expect(reader.done).toBe(true);
      expect(builder.root).toEqual(tree);
    }),
  );
});

test("any NAR cut short is TRUNCATED, never something else", () => {
  fc.assert(
    fc.property(trees(nameBytes), fc.nat(), (tree, seed) => {
      const nar = plainNar(tree);
      const kept = nar.subarray(0, seed % nar.length);
      expect(() => read(kept)).toThrow(expect.objectContaining({ code: "TRUNCATED" }));
    }),
  );
});

test("a listing says where each file's bytes lie, and survives its text", () => {
  fc.assert(
    fc.property(trees(textName), (tree) => {
      const nar = plainNar(tree);
      const lister = createNarLister();
      lister.write(nar);
      const listing = lister.end();
      expect(treeOf(listing.root, nar)).toEqual(tree);
      expect(parseNarListing(formatNarListing(listing))).toEqual(listing);
    }),
  );
});

describe("hostile NARs", () => {
  const magic = str("nix-archive-1");
  const node = (...texts: readonly (string | Uint8Array)[]): Buffer => strs("(", "type", ...texts);
  const regular = node("regular", "contents", "", ")");
  const entry = (name: string | Uint8Array, child: Buffer = regular): Buffer =>
    Buffer.concat([strs("entry", "(", "name", name, "node"), child, str(")")]);
  const directory = (...entries: readonly Buffer[]): Buffer =>
    Buffer.concat([node("directory"), ...entries, str(")")]);
  const nest = (depth: number): Buffer => {
    let nested = directory();
    for (let level = 0; level < depth; level += 1) nested = directory(entry("d", nested));
    return nested;
  };

  test.each<[title: string, ...nar: Buffer[]]>([
    ["another magic", str("nix-archive-2"), regular],
    ["no archive at all", Buffer.from("<html>".repeat(20))],
    ["a token that is too long", magic, str("("), str("type"), u64(2n ** 63n)],
    ["an unknown type", magic, node("socket", ")")],
    ["no type", magic, strs("(", ")", ")", ")")],
    ["two types", magic, node("regular", "type", "regular", ")")],
    ["a file without contents", magic, node("regular", ")"), str(")")],
    ["contents twice", magic, node("regular", "contents", "", "contents", "", ")")],
    [
      "executable after the contents",
      magic,
      node("regular", "contents", "", "executable", "", ")"),
    ],
    ["a marker with a value", magic, node("regular", "executable", "1", "contents", "", ")")],
    ["contents of 2^63 bytes", magic, node("regular", "contents"), u64(2n ** 63n)],
    ["contents of 2^53 bytes", magic, node("regular", "contents"), u64(2n ** 53n)],
    [
      "padding that is not zero",
      flipped(Buffer.concat([magic, node("regular", "contents", "abc", ")")]), 8 * 14 + 7),
    ],
    ["padding of a tag that is not zero", magic, flipped(regular, 15)],
    ["padding of a name that is not zero", magic, flipped(directory(entry("abc")), 8 * 15 + 7)],
    ["a symlink without a target", magic, node("symlink", ")"), str(")")],
    ["an empty target", magic, node("symlink", "target", "", ")")],
    ["a target with NUL", magic, node("symlink", "target", "a\0b", ")")],
    ["a target of 4096 bytes", magic, node("symlink", "target", "x".repeat(4096), ")")],
    ["a field of a file in a symlink", magic, node("symlink", "contents", "", ")")],
    ["an entry without a name", magic, directory(strs("entry", "(", "node"), regular, str(")"))],
    ["an empty name", magic, directory(entry(""))],
    ["the name .", magic, directory(entry("."))],
    ["the name ..", magic, directory(entry(".."))],
    ["a name with a slash", magic, directory(entry("a/b"))],
    ["a path as a name", magic, directory(entry("../../etc/passwd"))],
    ["a name with NUL", magic, directory(entry("a\0"))],
    ["a name of 256 bytes", magic, directory(entry("x".repeat(256)))],
    ["the same name twice", magic, directory(entry("a"), entry("a"))],
    ["descending names", magic, directory(entry("b"), entry("a"))],
    ["names in the order of another locale", magic, directory(entry("a"), entry("B"))],
    ["names in the order of UTF-16", magic, directory(entry("\u{1f30d}"), entry("\ufffd"))],
    ["a prefix after its longer name", magic, directory(entry("ab"), entry("a"))],
    ["directories nested 64 deep", magic, nest(64)],
    ["a byte after the end", magic, regular, Buffer.from([0])],
    ["a second NAR after the end", magic, regular, magic, regular],
  ])("%s is CORRUPT, whole or byte by byte", (_title, ...parts) => {
    const nar = Buffer.concat(parts);
    const corrupt = expect.objectContaining({ code: "CORRUPT" });
    expect(() => read(nar)).toThrow(corrupt);
    const reader = createNarReader({});
    expect(() => pieces(nar, [1]).forEach((byte) => reader.write(byte))).toThrow(corrupt);
    expect(() => reader.write(Buffer.alloc(0))).toThrow(corrupt);
    expect(() => reader.end()).toThrow(corrupt);
    expect(reader.done).toBe(false);
  });

  test.each<[title: string, ...nar: Buffer[]]>([
    ["a target of 4095 bytes", magic, node("symlink", "target", "x".repeat(4095), ")")],
    ["a name of 255 bytes", magic, directory(entry("x".repeat(255)))],
    ["directories nested 63 deep", magic, nest(63)],
    ["names that only look like dots", magic, directory(entry("..."), entry("..a"))],
    ["names that differ in case", magic, directory(entry("A"), entry("a"))],
    [
      "names that are not UTF-8",
      magic,
      directory(entry(Buffer.from([0x7f])), entry(Buffer.from([0xff]))),
    ],
  ])("%s are fine, whole or byte by byte", (_title, ...parts) => {
    const nar = Buffer.concat(parts);
    expect(() => read(nar)).not.toThrow();
    const reader = createNarReader({});
    for (const byte of pieces(nar, [1])) reader.write(byte);
    expect(reader.done).toBe(true);
  });

  test("an error says where: the byte and the path", () => {
    const nar = Buffer.concat([magic, directory(entry("d", directory(entry("b"), entry("a"))))]);
    expect(() => read(nar)).toThrow(/at byte \d+, in "d": .*order/);
  });

  test("a file of terabytes that is announced but not sent costs nothing", () => {
    const reader = createNarReader({});
    reader.write(Buffer.concat([magic, node("regular", "contents"), u64(2n ** 42n), str("x")]));
    expect(() => reader.end()).toThrow(expect.objectContaining({ code: "TRUNCATED" }));
  });

  test("an error of the handler reaches the writer, and the reader stays broken", () => {
    const reader = createNarReader({
      directory() {
        throw new RangeError("enough");
      },
    });
    expect(() => reader.write(Buffer.concat([magic, directory()]))).toThrow(RangeError);
    expect(() => reader.end()).toThrow(RangeError);
  });
});

describe("the writer", () => {
  test("contents larger than a chunk pass through without a copy", async () => {
    const contents = Buffer.alloc(200_000, 7);
    const chunks = await Array.fromAsync(
      writeNar([
        {
          type: "regular",
          path: [],
          executable: true,
          sizeBytes: 400_000,
          contents: repeat(contents, 2),
        },
      ]),
    );
    expect(chunks.some((chunk) => chunk.buffer === contents.buffer)).toBe(true);
    expect(chunks.slice(0, -1).every((chunk) => chunk.length >= 65_536)).toBe(true);
  });

  test("small pieces are gathered", async () => {
    const tiny = Array.from({ length: 20_000 }, () => Buffer.from("0123456789"));
    const chunks = await Array.fromAsync(
      writeNar([
        { type: "regular", path: [], executable: false, sizeBytes: 200_000, contents: tiny },
      ]),
    );
    expect(chunks.map((chunk) => chunk.length).slice(0, 3)).toEqual([65_536, 65_536, 65_536]);
    expect(chunks).toHaveLength(4);
  });

  test.each<[title: string, code: string, entries: NarEntry[]]>([
    ["no root", "INVALID", []],
    ["a child before the root", "INVALID", [file(path("a"))]],
    ["a second root", "INVALID", [ROOT, ROOT]],
    ["a child of a file", "INVALID", [file([]), file(path("a"))]],
    ["a child whose directory never came", "INVALID", [ROOT, file(path("a", "b"))]],
    [
      "a child of a directory already left",
      "INVALID",
      [ROOT, { type: "directory", path: path("a") }, file(path("b")), file(path("a", "c"))],
    ],
    ["the same name twice", "INVALID", [ROOT, file(path("a")), file(path("a"))]],
    ["descending names", "INVALID", [ROOT, file(path("b")), file(path("a"))]],
    [
      "names in the order of UTF-16",
      "INVALID",
      [ROOT, file(path("\u{1f30d}")), file(path("\ufffd"))],
    ],
    ["the name ..", "INVALID", [ROOT, file(path(".."))]],
    ["an empty name", "INVALID", [ROOT, file(path(""))]],
    ["a name with a slash", "INVALID", [ROOT, file(path("a/b"))]],
    ["an empty target", "INVALID", [{ type: "symlink", path: [], target: Buffer.alloc(0) }]],
    ["a size that is no number", "INVALID", [file([], "", Number.NaN)]],
    ["contents that end early", "TRUNCATED", [file([], "ab", 3)]],
    ["contents that go on", "CORRUPT", [file([], "ab", 1)]],
  ])("%s is refused", async (_title, code, entries) => {
    await expect(write(entries)).rejects.toMatchObject({ code });
  });

  test("directories nested deeper than Nix reads are refused", async () => {
    const names = Array.from({ length: 64 }, () => Buffer.from("x"));
    const entries = Array.from({ length: 65 }, (_, depth): NarEntry => {
      return { type: "directory", path: names.slice(0, depth) };
    });
    await expect(write(entries)).rejects.toMatchObject({ code: "UNSUPPORTED" });
    await expect(write(entries.slice(0, 64))).resolves.toBeInstanceOf(Buffer);
  });

  test("a consumer that stops early closes the sources", async () => {
    const closed: string[] = [];
    async function* endless(): AsyncGenerator<Buffer> {
      try {
        for (;;) yield Buffer.alloc(65_536);
      } finally {
        closed.push("contents");
      }
    }
    async function* entries(): AsyncGenerator<NarEntry> {
      try {
        yield {
          type: "regular",
          path: [],
          executable: false,
          sizeBytes: 2 ** 40,
          contents: endless(),
        };
      } finally {
        closed.push("entries");
      }
    }
    for await (const chunk of writeNar(entries())) {
      expect(chunk.length).toBeGreaterThan(0);
      break;
    }
    expect(closed).toEqual(["contents", "entries"]);
  });
});

describe("a listing that cannot be", () => {
  test("of a name that is not UTF-8 is UNSUPPORTED, once the NAR is known to be sound", async () => {
    const nar = await directoryOf(Buffer.from([0xe9]));
    const lister = createNarLister();
    lister.write(nar);
    expect(() => lister.end()).toThrow(expect.objectContaining({ code: "UNSUPPORTED" }));
    const cut = createNarLister();
    cut.write(nar.subarray(0, -8));
    expect(() => cut.end()).toThrow(expect.objectContaining({ code: "TRUNCATED" }));
  });

  test.each([{ maxEntries: 2 }, { maxTextBytes: 5 }])(
    "of more than %j is TOO_LARGE",
    async (limits) => {
      const lister = createNarLister(limits);
      lister.write(await directoryOf(...path("aaa", "bbb")));
      expect(() => lister.end()).toThrow(expect.objectContaining({ code: "TOO_LARGE" }));
    },
  );

  test.each([
    ["", "CORRUPT"],
    ["[]", "CORRUPT"],
    ["null", "CORRUPT"],
    [`{"version":2,"root":{"type":"directory","entries":{}}}`, "UNSUPPORTED"],
    [`{"version":1}`, "CORRUPT"],
    [`{"version":1,"root":{"type":"socket"}}`, "CORRUPT"],
    [`{"version":1,"root":{"type":"directory","entries":[]}}`, "CORRUPT"],
    [`{"version":1,"root":{"type":"directory","entries":{"a":null}}}`, "CORRUPT"],
    [`{"version":1,"root":{"type":"regular","size":-1}}`, "CORRUPT"],
    [`{"version":1,"root":{"type":"regular","size":1,"executable":"yes"}}`, "CORRUPT"],
    [`{"version":1,"root":{"type":"symlink"}}`, "CORRUPT"],
    [
      `{"version":1,"root":${`{"type":"directory","entries":{"d":`.repeat(65)}0${"}}".repeat(65)}}`,
      "CORRUPT",
    ],
  ])("of the text %s is refused", (text, code) => {
    expect(() => parseNarListing(text)).toThrow(expect.objectContaining({ code }));
  });
});

async function* repeat(piece: Buffer, times: number): AsyncGenerator<Buffer> {
  for (let turn = 0; turn < times; turn += 1) yield piece;
}
