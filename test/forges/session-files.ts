import { readdir, readFile, stat } from "node:fs/promises";
import path from "node:path";

/** What differs between any two jobs, forge or not. */
export interface Varying {
  readonly session: string;
  readonly secret: string;
  readonly server: string;
  readonly nix: string;
}

/** Files whose every byte is compared; of the others the name and the rights. */
const COMPARED = new Set([
  ...["nix.conf", "bazelrc", "credential-helper", "credential.json", "post-build-hook"],
  ...["settings.json", "report.json"],
]);
/** When it was, and the server's sentence, which names the forge's own words. */
const PASSING = /^ *"(startedAt|reason|\w+Ms)": .*\n/gm;

/** Describes a session's folder: each file with its rights and its text, without what differs from job to job. */
export async function describeSessionFiles(folder: string, varying: Varying): Promise<string> {
  const lines: string[] = [];
  for (const name of (await readdir(folder)).sort()) {
    const file = path.join(folder, name);
    const { mode } = await stat(file);
    lines.push(`== ${name} ${(mode & 0o777).toString(8)}`);
    if (COMPARED.has(name)) lines.push(withoutVarying(name, await readFile(file, "utf8"), varying));
  }
  return lines.join("\n");
}

function withoutVarying(name: string, text: string, varying: Varying): string {
  const { session, secret, server, nix } = varying;
  const plain = text
    .replaceAll(session, "<session>")
    .replaceAll(secret, "<secret>")
    .replaceAll(server, "<server>")
    .replaceAll(new URL(server).host, "<server>")
    .replaceAll(nix, "<nix>")
    .replaceAll(/127\.0\.0\.1:\d+/g, "127.0.0.1:<port>")
    .replaceAll(/(NIX_USER_CONF_FILES": "<session>\/nix\.conf).*"/g, "$1:<the user's>\"")
    .replaceAll(/acme\+main_(pr-\d+|ref-[0-9a-f]+)/g, "acme+main_<overlay>")
    .replaceAll(/(acme\+main(?:_<overlay>)?)-[0-9a-f]{8}:[A-Za-z0-9+/]{43}=/g, "<key of $1>");
  if (!name.endsWith(".json")) return plain.trimEnd();
  // Who the runner's process is.
  const { job: _, ...kept } = JSON.parse(plain) as Record<string, unknown>;
  return JSON.stringify(kept, undefined, 2).replaceAll(PASSING, "");
}
