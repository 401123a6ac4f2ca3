import type { CacheError } from "@glorious/core";

import type { NarHandler } from "./nar-reader.ts";
import {
  corruptNar,
  encodeNarStrings,
  MAX_NAR_DEPTH,
  MAX_NAR_NAME_BYTES,
  MAX_NAR_TARGET_BYTES,
  narNameProblem,
  narTargetProblem,
} from "./nar-tokens.ts";

/** What the grammar accepts next: either a token of fixed size, or one string. */
export interface NarStep {
  /** What it is, for messages. */
  readonly name: string;
  /** The size of the whole token; `undefined` for a string, whose length comes first. */
  readonly fixedBytes: number | undefined;
  /** The longest a string may be. */
  readonly maxBytes: number;
  /** Takes the whole token, which lies at `at` in `source`, and returns what comes next. */
  take(tree: NarTree, source: Buffer, at: number, bytes: number): NarStep;
}

/** The part of the tree a reader remembers: the way from the root to where it is. */
export class NarTree {
  /** Where in the NAR the next token starts. */
  offset = 0;
  /** Bytes of the current file still to come. */
  contentsLeft = 0;
  isExecutable = false;
  /** The names from the root to the current node. */
  readonly path: Buffer[] = [];
  /** The last name seen in each open directory, outermost first. */
  readonly #lastNames: (Buffer | undefined)[] = [];
  readonly #handler: NarHandler;

  constructor(handler: NarHandler) {
    this.#handler = handler;
  }

  corrupt(reason: string): CacheError {
    return corruptNar(this.offset, reason, this.path);
  }

  openDirectory(): NarStep {
    this.#lastNames.push(undefined);
    this.#handler.directory?.(this.path.slice());
    return DIRECTORY_TAG;
  }

  closeDirectory(): NarStep {
    this.#lastNames.pop();
    this.#handler.endDirectory?.();
    return this.endNode();
  }

  enter(name: Buffer): NarStep {
    const problem = narNameProblem(name);
    if (problem !== undefined) throw this.corrupt(problem);
    const depth = this.#lastNames.length - 1;
    const last = this.#lastNames[depth];
    if (last !== undefined && Buffer.compare(last, name) >= 0) {
      throw this.corrupt("the entries of a directory are not in ascending byte-wise order");
    }
    if (this.path.length >= MAX_NAR_DEPTH) {
      throw this.corrupt(`directories are nested more than ${MAX_NAR_DEPTH} deep`);
    }
    this.#lastNames[depth] = name;
    this.path.push(name);
    return NODE_HEAD;
  }

  symlink(target: Buffer): NarStep {
    const problem = narTargetProblem(target);
    if (problem !== undefined) throw this.corrupt(problem);
    this.#handler.symlink?.(this.path.slice(), target);
    return NODE_CLOSE;
  }

  /** The contents themselves pass outside the grammar; what comes after them is returned. */
  beginFile(sizeBytes: number): NarStep {
    const { isExecutable: executable } = this;
    this.#handler.regular?.(this.path.slice(), {
      executable,
      sizeBytes,
      narOffset: this.offset + 8,
    });
    this.contentsLeft = sizeBytes;
    if (sizeBytes === 0) this.#handler.endRegular?.();
    return PADDINGS[sizeBytes & 7] ?? NODE_CLOSE;
  }

  /** Passes contents on; returns how many bytes of the chunk that took. */
  takeContents(chunk: Buffer, at: number): number {
    const taken = Math.min(this.contentsLeft, chunk.length - at);
    this.#handler.contents?.(chunk.subarray(at, at + taken));
    this.offset += taken;
    this.contentsLeft -= taken;
    if (this.contentsLeft === 0) this.#handler.endRegular?.();
    return taken;
  }

  endNode(): NarStep {
    return this.#lastNames.length === 0 ? NAR_END : ENTRY_CLOSE;
  }
}

const REGULAR = encodeNarStrings("regular");
const EXECUTABLE = encodeNarStrings("executable");
const CONTENTS = encodeNarStrings("contents");
const DIRECTORY = encodeNarStrings("directory");
const SYMLINK = encodeNarStrings("symlink");
const ENTRY = encodeNarStrings("entry");
const CLOSE = encodeNarStrings(")");

// Runs of strings that are fixed are compared in one go.

/** What every NAR starts with. */
export const NAR_START: NarStep = fixed(["nix-archive-1", "(", "type"], () => TYPE);

/** Nothing may follow. */
export const NAR_END: NarStep = {
  name: "nothing",
  fixedBytes: 1,
  maxBytes: 0,
  take(tree) {
    throw tree.corrupt("bytes follow its end");
  },
};

const TYPE: NarStep = tag("regular, symlink or directory", (tree, source, at) => {
  if (isAt(REGULAR, source, at)) return REGULAR_TAG;
  if (isAt(DIRECTORY, source, at)) return tree.openDirectory();
  return isAt(SYMLINK, source, at) ? TARGET_TAG : undefined;
});

const REGULAR_TAG: NarStep = tag("executable or contents", (tree, source, at) => {
  tree.isExecutable = isAt(EXECUTABLE, source, at);
  if (tree.isExecutable) return EXECUTABLE_TAIL;
  return isAt(CONTENTS, source, at) ? SIZE : undefined;
});

const EXECUTABLE_TAIL: NarStep = fixed(["", "contents"], () => SIZE);

const SIZE: NarStep = {
  name: "a file size",
  fixedBytes: 8,
  maxBytes: 0,
  take(tree, source, at) {
    const sizeBytes = source.readUInt32LE(at) + source.readUInt32LE(at + 4) * 2 ** 32;
    if (!Number.isSafeInteger(sizeBytes)) throw tree.corrupt("a file is too large to exist");
    return tree.beginFile(sizeBytes);
  },
};

const NODE_CLOSE: NarStep = fixed([")"], (tree) => tree.endNode());

/** By `size & 7`: the zeros that follow contents of that size. */
const PADDINGS: readonly (NarStep | undefined)[] = [
  undefined,
  ...[7, 6, 5, 4, 3, 2, 1].map((bytes) =>
    fixedBytes(`${bytes} zero bytes of padding`, Buffer.alloc(bytes), () => NODE_CLOSE),
  ),
];

const TARGET_TAG: NarStep = fixed(["target"], () => TARGET);

const TARGET: NarStep = text("a symlink's target", MAX_NAR_TARGET_BYTES, (tree, target) =>
  tree.symlink(target),
);

const DIRECTORY_TAG: NarStep = tag("entry or )", (tree, source, at) => {
  if (isAt(ENTRY, source, at)) return NAME_HEAD;
  return isAt(CLOSE, source, at) ? tree.closeDirectory() : undefined;
});

const NAME_HEAD: NarStep = fixed(["(", "name"], () => NAME);

const NAME: NarStep = text("an entry's name", MAX_NAR_NAME_BYTES, (tree, name) => tree.enter(name));

const NODE_HEAD: NarStep = fixed(["node", "(", "type"], () => TYPE);

const ENTRY_CLOSE: NarStep = fixed([")"], (tree) => {
  tree.path.pop();
  return DIRECTORY_TAG;
});

/** These exact strings in a row. */
function fixed(strings: readonly string[], next: (tree: NarTree) => NarStep): NarStep {
  const shown = strings.map((string) => JSON.stringify(string)).join(" ");
  return fixedBytes(shown, encodeNarStrings(...strings), next);
}

function fixedBytes(name: string, wanted: Buffer, next: (tree: NarTree) => NarStep): NarStep {
  return {
    name,
    fixedBytes: wanted.length,
    maxBytes: 0,
    take(tree, source, at) {
      if (!isAt(wanted, source, at)) throw tree.corrupt(`${name} is wanted here`);
      return next(tree);
    },
  };
}

/** One of a few short strings. */
function tag(
  name: string,
  next: (tree: NarTree, source: Buffer, at: number) => NarStep | undefined,
): NarStep {
  return {
    name: `a tag (${name})`,
    fixedBytes: undefined,
    // `executable` is the longest there is.
    maxBytes: 10,
    take(tree, source, at) {
      const step = next(tree, source, at);
      if (step === undefined) throw tree.corrupt(`${name} is wanted here`);
      return step;
    },
  };
}

/** Any string up to a length, copied. */
function text(
  name: string,
  maxBytes: number,
  next: (tree: NarTree, bytes: Buffer) => NarStep,
): NarStep {
  return {
    name,
    fixedBytes: undefined,
    maxBytes,
    take(tree, source, at, bytes) {
      const length = source.readUInt32LE(at);
      for (let index = at + 8 + length; index < at + bytes; index += 1) {
        if (source[index] !== 0) throw tree.corrupt(`the padding of ${name} is not zero`);
      }
      return next(tree, Buffer.from(source.subarray(at + 8, at + 8 + length)));
    },
  };
}

/** `wanted` starts with its length, so a longer or shorter token never equals it. */
function isAt(wanted: Buffer, source: Buffer, at: number): boolean {
  for (let index = 0; index < wanted.length; index += 1) {
    if (source[at + index] !== wanted[index]) return false;
  }
  return true;
}
