import { type BlockOwner, type BlockPlace, insertBlock, splitAtBlock } from "./managed-block.ts";

/** A file as it is: each character of the text is one byte, so that nothing is lost in any encoding. */
export interface FileState {
  readonly path: string;
  /** `undefined`: there is no such file. */
  readonly text: string | undefined;
}

/** A file as it shall be; `undefined`: it shall not be. */
export interface FileChange extends FileState {
  readonly isSecret: boolean;
  /** To be run, by anybody: Bazel fails a build whose helper it may not run, and `--system` is for every user. */
  readonly isProgram?: boolean;
}

/** Our lines in a file; `undefined` when there is no block. @throws {CacheError} `CORRUPT` when it is damaged. */
export function readBlockLines(file: FileState, owner: BlockOwner): readonly string[] | undefined {
  return splitAtBlock(file.text ?? "", file.path, owner).block?.lines;
}

/** The user's own text of a file, without the owner's block. @throws {CacheError} `CORRUPT` when that is damaged. */
export function readUserText(file: FileState, owner: BlockOwner): string {
  const { before, after } = splitAtBlock(file.text ?? "", file.path, owner);
  return before + after;
}

/**
 * The text of a file with these lines as the owner's block, and without a block when there are none: then a file
 * that the block brought is gone.
 *
 * @throws {CacheError} `CORRUPT` when the present block is damaged.
 */
export function rewriteBlock(
  file: FileState,
  lines: readonly string[],
  { owner, place }: { readonly owner: BlockOwner; readonly place: BlockPlace },
): string | undefined {
  const { block } = splitAtBlock(file.text ?? "", file.path, owner);
  const userText = readUserText(file, owner);
  const isFileOurs = block?.isFileOurs ?? file.text === undefined;
  if (lines.length > 0) return insertBlock(userText, lines, { owner, place, isFileOurs });
  return isFileOurs && userText === "" ? undefined : userText;
}

/** The files whose text becomes another. */
export function keepChanged(
  files: ReadonlyArray<
    readonly [old: FileState, text: string | undefined, more: Omit<FileChange, keyof FileState>]
  >,
): FileChange[] {
  return files
    .filter(([old, text]) => old.text !== text)
    .map(([{ path }, text, more]) => ({ path, text, ...more }));
}
