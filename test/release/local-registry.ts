import { once } from "node:events";
import { mkdir, readdir, readFile, symlink } from "node:fs/promises";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { createTemporaryDirectory, runCommand } from "@glorious/testkit";

const STORE = fileURLToPath(new URL("../../node_modules/.pnpm", import.meta.url));

/** A package as npm looks it up. */
interface Published {
  readonly manifest: { readonly name: string; readonly version: string };
  /** Gives its packed form. */
  readonly pack: () => Promise<Buffer>;
}

/** A registry of packages on this machine. */
export interface LocalRegistry extends AsyncDisposable {
  readonly url: string;
}

/**
 * Serves the tarballs of a folder, and what other packages are installed in this checkout, as npm's registry does: an
 * installation needs no network, and gets nothing of ours but what was packed.
 */
export async function startLocalRegistry(tarballs: string): Promise<LocalRegistry> {
  const scratch = await createTemporaryDirectory("flywheel-registry-");
  const packages = Map.groupBy(
    [...(await listTarballs(tarballs)), ...(await listInstalled(scratch.path))],
    ({ manifest }) => manifest.name,
  );
  const server = createServer((request, response) => {
    const [name = "", version] = decodeURIComponent(request.url ?? "")
      .slice(1)
      .split("/-/");
    const versions = packages.get(name);
    const found = versions?.find(({ manifest }) => manifest.version === version);
    if (versions === undefined || (version !== undefined && found === undefined)) {
      response.writeHead(404).end("{}");
    } else if (found === undefined) {
      sendPackument(response, versions, `http://${request.headers.host ?? ""}/${name}/-/`);
    } else {
      found.pack().then(
        (bytes) => response.end(bytes),
        (error: unknown) => response.writeHead(500).end(String(error)),
      );
    }
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await scratch[Symbol.asyncDispose]();
    },
  };
}

function sendPackument(
  response: ServerResponse,
  versions: readonly Published[],
  base: string,
): void {
  const name = versions[0]?.manifest.name;
  const entries = versions.map(({ manifest }) => [
    manifest.version,
    { ...manifest, dist: { tarball: `${base}${manifest.version}` } },
  ]);
  response.setHeader("content-type", "application/json");
  response.end(
    JSON.stringify({
      name,
      "dist-tags": { latest: versions.at(-1)?.manifest.version },
      versions: Object.fromEntries(entries) as object,
    }),
  );
}

async function listTarballs(folder: string): Promise<Published[]> {
  const names = (await readdir(folder)).filter((name) => name.endsWith(".tgz"));
  return Promise.all(
    names.map(async (name) => {
      const file = path.join(folder, name);
      const { stdout } = await runCommand("tar", ["-xOzf", file, "package/package.json"]);
      return { manifest: parseManifest(stdout), pack: () => readFile(file) };
    }),
  );
}

/** What pnpm has installed, packed when it is asked for. */
async function listInstalled(scratch: string): Promise<Published[]> {
  const found = new Map<string, Published>();
  for (const entry of await readdir(STORE)) {
    // `@scope+name@version`, with the peers that it was installed with.
    const [, name, version] = /^(@?[^@]+)@([^_(]+)/.exec(entry) ?? [];
    if (name === undefined || version === undefined) continue;
    const folder = path.join(STORE, entry, "node_modules", name.replace("+", "/"));
    const text = await readFile(path.join(folder, "package.json"), "utf8").catch(() => undefined);
    if (text === undefined) continue;
    const manifest = parseManifest(text);
    const pack = async (): Promise<Buffer> => packFolder(folder, path.join(scratch, entry));
    found.set(`${manifest.name}@${manifest.version}`, { manifest, pack });
  }
  return [...found.values()];
}

async function packFolder(folder: string, scratch: string): Promise<Buffer> {
  await mkdir(scratch, { recursive: true });
  await symlink(folder, path.join(scratch, "package")).catch(() => {});
  const file = path.join(scratch, "package.tgz");
  // pnpm's equal files are one file with several names, which npm would leave out.
  const plain = ["--dereference", "--hard-dereference", "--exclude=node_modules"];
  const args = ["-czf", file, ...plain, "package"];
  await runCommand("tar", args, { cwd: scratch });
  return readFile(file);
}

function parseManifest(text: string): Published["manifest"] {
  return JSON.parse(text) as Published["manifest"];
}
