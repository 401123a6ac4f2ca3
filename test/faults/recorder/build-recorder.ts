import { createHash } from "node:crypto";
import { access, readFile, rename } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { runCommand } from "@glorious/testkit";

const SOURCE = fileURLToPath(new URL("./recorder.c", import.meta.url));

/** The library to preload, or why there is none. */
export type BuiltRecorder = { readonly library: string } | { readonly missing: string };

let building: Promise<BuiltRecorder> | undefined;

/** Compiles the recorder with the machine's own `cc`, once for each version of its source. */
export function buildRecorder(): Promise<BuiltRecorder> {
  building ??= build();
  return building;
}

async function build(): Promise<BuiltRecorder> {
  if (process.platform !== "linux") return { missing: "the recorder needs Linux" };
  const source = await readFile(SOURCE);
  const version = createHash("sha256").update(source).digest("hex").slice(0, 16);
  const library = path.join(tmpdir(), `flywheel-recorder-${version}-${process.getuid?.()}.so`);
  const isThere = await access(library).then(
    () => true,
    () => false,
  );
  if (isThere) return { library };
  const unfinished = `${library}.${process.pid}`;
  const args = ["-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-o", unfinished, SOURCE];
  try {
    const { status, stderr } = await runCommand("cc", [...args, "-ldl", "-lpthread"]);
    if (status !== 0) throw new Error(`cc refuses the recorder: ${stderr}`);
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") {
      return { missing: "there is no C compiler (cc)" };
    }
    throw error;
  }
  await rename(unfinished, library);
  return { library };
}
