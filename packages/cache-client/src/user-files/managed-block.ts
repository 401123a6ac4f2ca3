import { CacheError } from "@glorious/core";

/** A block of lines that we keep inside a file of the user's. */
export interface ManagedBlock {
  readonly lines: readonly string[];
  /** The file exists only because of the block. */
  readonly isFileOurs: boolean;
  /** The text before the block had no line feed at its end; we added one. */
  readonly isLineFeedOurs: boolean;
}

/** A file's text, cut at our block. `before + after` is what the user wrote. */
export interface SplitText {
  readonly before: string;
  readonly block: ManagedBlock | undefined;
  readonly after: string;
}

/** The command that keeps a block. Blocks of several commands may stand in one file. */
export type BlockOwner = "flywheel use" | "flywheel use bazel" | "flywheel setup";

const FILE_IS_OURS = "new-file";
const LINE_FEED_IS_OURS = "line-feed";

/**
 * Finds the block of one of our commands. The block itself records what has to be undone, so the user may edit, move or copy
 * the file, and still gets exactly their own bytes back.
 *
 * @throws {CacheError} `CORRUPT` when the block has no end; `path` is for the message.
 */
export function splitAtBlock(text: string, path: string, owner: BlockOwner): SplitText {
  const begin = findLine(text, beginLine(owner), 0);
  if (begin === undefined) return { before: text, block: undefined, after: "" };
  const end = findLine(text, endLine(owner), begin.end);
  if (end === undefined) {
    throw new CacheError(
      "CORRUPT",
      `${path} has a line "${beginLine(owner)}" but no "${endLine(owner)}" after it`,
      {
        hint: "Remove what is left of that block by hand, then try again.",
      },
    );
  }
  const attributes = /\[([a-z ,-]*)\]/.exec(begin.text)?.[1]?.split(", ") ?? [];
  const isLineFeedOurs = attributes.includes(LINE_FEED_IS_OURS);
  const after = text.slice(end.end);
  const before = text.slice(0, begin.start);
  return {
    // With something below the block, the line feed has become the user's.
    before: isLineFeedOurs && after === "" ? before.replace(/\n$/, "") : before,
    block: {
      lines: text.slice(begin.end, end.start).split("\n").slice(0, -1),
      isFileOurs: attributes.includes(FILE_IS_OURS),
      isLineFeedOurs,
    },
    after,
  };
}

/** Where in the file the block goes. */
export type BlockPlace = "top" | "bottom";

/** The user's text with the block in it. */
export function insertBlock(
  userText: string,
  lines: readonly string[],
  options: {
    readonly owner: BlockOwner;
    readonly place: BlockPlace;
    readonly isFileOurs: boolean;
  },
): string {
  const { owner } = options;
  const isLineFeedOurs = options.place === "bottom" && userText !== "" && !userText.endsWith("\n");
  const attributes = [
    ...(options.isFileOurs ? [FILE_IS_OURS] : []),
    ...(isLineFeedOurs ? [LINE_FEED_IS_OURS] : []),
  ];
  const remover = owner === "flywheel setup" ? "flywheel drain --end" : `${owner} --undo`;
  const hint = `\`${owner}\` wrote this, \`${remover}\` removes it`;
  const begin = `${beginLine(owner)} ${hint} [${attributes.join(", ")}]`;
  const block = `${[begin, ...lines, endLine(owner)].join("\n")}\n`;
  return options.place === "top"
    ? block + userText
    : `${userText}${isLineFeedOurs ? "\n" : ""}${block}`;
}

function beginLine(owner: BlockOwner): string {
  return `# >>> ${owner} >>>`;
}

function endLine(owner: BlockOwner): string {
  return `# <<< ${owner} <<<`;
}

interface FoundLine {
  readonly text: string;
  readonly start: number;
  /** After the line feed. */
  readonly end: number;
}

function findLine(text: string, prefix: string, from: number): FoundLine | undefined {
  let start = from;
  while (start < text.length) {
    const feed = text.indexOf("\n", start);
    const end = feed === -1 ? text.length : feed + 1;
    if (text.startsWith(prefix, start)) return { text: text.slice(start, end), start, end };
    start = end;
  }
  return undefined;
}
