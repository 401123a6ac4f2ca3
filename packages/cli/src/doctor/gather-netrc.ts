import { constants } from "node:fs";
import { access, readFile, stat } from "node:fs/promises";

import { parseNetrc } from "../user-files/netrc.ts";
import type { NetrcFacts } from "./netrc-facts.ts";
import { failed, known, notTried } from "./probe.ts";

/** Reads the netrc file that a client was told to use. */
export async function gatherNetrc(path: string | undefined): Promise<NetrcFacts> {
  if (path === undefined) {
    const entries = notTried("no netrc file is to be used");
    return { path, mode: undefined, ownerId: undefined, entries };
  }
  const found = await stat(path).catch((error: NodeJS.ErrnoException) => error.code);
  if (typeof found !== "object") {
    const isAbsent = found === "ENOENT" || found === "ENOTDIR";
    return {
      path,
      mode: undefined,
      ownerId: undefined,
      entries: isAbsent ? notTried(`${path} does not exist`) : failed(`${path}: ${found}`),
    };
  }
  const facts = { path, mode: found.mode & 0o777, ownerId: found.uid };
  try {
    await access(path, constants.R_OK);
    return { ...facts, entries: known(parseNetrc(await readFile(path, "latin1"))) };
  } catch (error) {
    // Only the code: what a parser says might quote the file.
    return { ...facts, entries: failed(`${path}: ${(error as NodeJS.ErrnoException).code}`) };
  }
}
