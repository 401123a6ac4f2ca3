import {
  type FileChange,
  type FileState,
  formatRcImport,
  keepChanged,
  readBlockLines,
  readUserText,
  rewriteBlock,
} from "@glorious/cache-client";

import { formatNetrcBlock, parseNetrc } from "../user-files/netrc.ts";

const OWNER = "flywheel use bazel";
const NOTE = `# \`${OWNER}\` wrote this file, \`${OWNER} --undo\` removes it.\n`;

/** The files that are about a Bazel cache. */
export interface BazelFiles {
  /** The rc file that Bazel reads by itself; it gets one line. */
  readonly userRc: FileState;
  /** The rc file of our own. */
  readonly ownRc: FileState;
  /** Gives Bazel the token. */
  readonly credentialHelper: FileState;
  /** Holds a token that is not the one of `login`. */
  readonly tokenFile: FileState;
  /** Where a Bazel without credential helpers finds the token. */
  readonly netrc: FileState;
}

/** How Bazel gets the token. */
export type BazelCredential =
  | { readonly kind: "none" }
  /** `script` runs us; `token` is set when it is not the one of `login`. */
  | { readonly kind: "helper"; readonly script: string; readonly token: string | undefined }
  | { readonly kind: "netrc"; readonly host: string; readonly token: string };

/** What is to be done, and what the user should know about it. */
export interface BazelPlan {
  readonly changes: readonly FileChange[];
  readonly warnings: readonly string[];
}

/**
 * Plans the configuration that makes Bazel use a cache: all of it, in place of what an earlier one said. The user's
 * own lines stay as they are, byte for byte.
 *
 * @param rcText - What {@link formatBazelRc} gave.
 * @throws {CacheError} `CORRUPT` when an earlier block is damaged.
 */
export function planUseBazel(
  files: BazelFiles,
  rcText: string,
  credential: BazelCredential,
): BazelPlan {
  const script = credential.kind === "helper" ? credential.script : undefined;
  const token = credential.kind === "helper" ? credential.token : undefined;
  return plan(files, {
    netrc: credential.kind === "netrc" ? formatNetrcBlock([credential]) : [],
    token: token === undefined ? undefined : `${token}\n`,
    helper: script === undefined ? undefined : toFileText(script),
    ownRc: toFileText(NOTE + rcText),
    userRc: [formatRcImport(files.ownRc.path)],
    warnings: credential.kind === "netrc" ? describeClash(files.netrc, credential) : [],
  });
}

/** Plans to take all of it out again: the files are what they were before the first {@link planUseBazel}. */
export function planUndoBazel(files: BazelFiles): BazelPlan {
  return plan(files, {
    netrc: [],
    token: undefined,
    helper: undefined,
    ownRc: undefined,
    userRc: [],
    warnings: [],
  });
}

interface Wanted {
  readonly netrc: readonly string[];
  readonly token: string | undefined;
  readonly helper: string | undefined;
  readonly ownRc: string | undefined;
  readonly userRc: readonly string[];
  readonly warnings: readonly string[];
}

function plan(files: BazelFiles, wanted: Wanted): BazelPlan {
  const { userRc, ownRc, credentialHelper, tokenFile, netrc } = files;
  const SECRET = { isSecret: true };
  const PUBLIC = { isSecret: false };
  return {
    warnings: wanted.warnings,
    // The line that switches it on comes last.
    changes: keepChanged([
      [netrc, rewriteBlock(netrc, wanted.netrc, { owner: OWNER, place: "top" }), SECRET],
      [tokenFile, wanted.token, SECRET],
      [credentialHelper, wanted.helper, { isSecret: false, isProgram: true }],
      [ownRc, wanted.ownRc, PUBLIC],
      [userRc, rewriteBlock(userRc, wanted.userRc, { owner: OWNER, place: "bottom" }), PUBLIC],
    ]),
  };
}

/** Whether Bazel is configured by us. */
export function isBazelConfigured(userRc: FileState): boolean {
  return readBlockLines(userRc, OWNER) !== undefined;
}

function describeClash(
  netrc: FileState,
  { host, token }: { readonly host: string; readonly token: string },
): string[] {
  const theirs = parseNetrc(readUserText(netrc, OWNER)).find((entry) => entry.host === host);
  if (theirs === undefined || theirs.password === token) return [];
  return [
    `${netrc.path} has an entry of your own for ${host}. Programs go by the host alone, whatever the port, and most take the first entry: they now send this view's token there. \`${OWNER} --undo\` brings yours back.`,
  ];
}

/** One character a byte, as {@link FileState} has it: the user's folder may have a name of any script. */
function toFileText(text: string): string {
  return Buffer.from(text, "utf8").toString("latin1");
}
