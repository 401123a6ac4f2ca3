import { resolve } from "node:path";
import { createInterface } from "node:readline/promises";
import { Writable } from "node:stream";

import { CacheError } from "@glorious/core";

import type { CliContext } from "./cli-context.ts";
import { readOptionalFile } from "./read-file.ts";

// Far above any token, far below what would hurt.
const MAX_SECRET_BYTES = 64 * 1024;

/**
 * Reads a token from a file; `-` is standard input.
 *
 * @throws {CacheError} `INVALID` when there is no token in it; the message never quotes what there is.
 */
export async function readTokenFile(file: string, context: CliContext): Promise<string> {
  if (file === "-") return requireToken(await readStandardInput(context), "Standard input");
  const text = await readOptionalFile(resolve(context.workingDirectory, file), "utf8");
  if (text === undefined)
    throw new CacheError("NOT_FOUND", `The token file ${file} does not exist`);
  return requireToken(text, file);
}

/** Everything that standard input holds. @throws {CacheError} `TOO_LARGE` beyond what anybody writes there. */
export async function readStandardInput(context: CliContext): Promise<string> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of context.stdin) {
    const bytes = Buffer.from(chunk as Uint8Array);
    sizeBytes += bytes.length;
    if (sizeBytes > MAX_SECRET_BYTES) {
      throw new CacheError("TOO_LARGE", "Standard input is longer than 64 KiB");
    }
    chunks.push(bytes);
  }
  return Buffer.concat(chunks).toString("utf8");
}

/** Asks for a token on the terminal without showing what is typed. */
export async function promptToken(context: CliContext): Promise<string> {
  context.stderr.write("Token (not shown): ");
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() });
  const terminal = createInterface({ input: context.stdin, output: silent, terminal: true });
  try {
    return requireToken(await terminal.question("", { signal: context.signal }), "The answer");
  } finally {
    terminal.close();
    context.stderr.write("\n");
  }
}

/** Asks a question that only the whole word `yes` answers; refused where nobody can be asked. */
export async function confirm(question: string, context: CliContext): Promise<boolean> {
  const terminal = createInterface({ input: context.stdin, output: context.stderr });
  try {
    return (await terminal.question(`${question} (yes/no) `, { signal: context.signal })) === "yes";
  } finally {
    terminal.close();
  }
}

/**
 * Cuts the white space around a token.
 *
 * @throws {CacheError} `INVALID` when it is empty or holds what no header and no netrc file can carry.
 */
export function requireToken(text: string, source: string): string {
  const token = text.trim();
  if (token === "") throw new CacheError("INVALID", `${source} holds no token`);
  if (/^[\x21-\x7E]+$/.test(token)) return token;
  throw new CacheError("INVALID", `${source} holds something else than one token`, {
    hint: "A token is one word of printable ASCII characters.",
  });
}
