/**
 * Records what real clients send to a server of ours, a file for each connection: every Nix of this machine copies a
 * path to it and takes it from it, and our own client pushes it.
 *
 *   node --conditions=source test/fuzz/captures/make.ts
 */
import { readdir, rm, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { openCache, queryClosure } from "@glorious/cache-client";
import { createNixSandbox, findNixVersions, startFlywheel } from "@glorious/testkit";

const DIRECTORY = fileURLToPath(new URL(".", import.meta.url));
/** Longer ones make slow seeds and show nothing new. */
const MAX_BYTES = 8192;

await using server = await startFlywheel();
const token = await server.readToken();
const basic = Buffer.from(`flywheel:${token}`).toString("base64");
const connections: Buffer[][] = [];
const recorder = createServer((client) => {
  const pieces: Buffer[] = [];
  connections.push(pieces);
  const upstream = connect(Number(new URL(server.url).port), "127.0.0.1");
  client.on("data", (piece: Buffer) => pieces.push(piece));
  client.pipe(upstream).pipe(client);
  client.on("error", () => {});
  upstream.on("error", () => {});
});
await new Promise<void>((resolve) => {
  recorder.listen(0, "127.0.0.1", () => resolve());
});
const address = recorder.address();
if (address === null || typeof address === "string") throw new Error("The recorder has no port");
const url = `http://127.0.0.1:${address.port}`;

for (const name of await readdir(DIRECTORY)) {
  if (name.endsWith(".http")) await rm(path.join(DIRECTORY, name));
}
for (const nix of findNixVersions()) {
  const settings = { trustedKeys: [server.publicKey], netrc: [{ password: token }] };
  await using sandbox = await createNixSandbox(nix, settings);
  // Nix remembers the narinfos it has sent, without our signature.
  await using reader = await createNixSandbox(nix, settings);
  const build = (name: string): Promise<string> =>
    sandbox.buildPath(`mkPath { name = "${name}"; script = "echo ${name} > $out"; }`);
  const copied = await build("copied");
  await sandbox.output("nix", ["copy", "--to", `${url}/main?compression=zstd`, copied]);
  await save(`nix-${nix.version}-copy`);
  const { status, stderr } = await reader.substitute(copied, { from: `${url}/main` });
  if (status !== 0) throw new Error(`Nix ${nix.version} took nothing: ${stderr}`);
  await save(`nix-${nix.version}-substitute`);
  const paths = await queryClosure([await build("pushed")], {
    nix: path.join(nix.binDirectory, "nix"),
    recursive: true,
  });
  await using cache = await openCache({ server: url, view: "main", token });
  await cache.push(paths);
  await save(`flywheel-push-${nix.version}`);
}
recorder.close();
recorder.unref();

async function save(name: string): Promise<void> {
  for (const [number, pieces] of connections.splice(0).entries()) {
    const text = Buffer.concat(pieces).subarray(0, MAX_BYTES).toString("latin1");
    const anonymous = text.replaceAll(token, "{{TOKEN}}").replaceAll(basic, "{{BASIC}}");
    if (text === "") continue;
    await writeFile(path.join(DIRECTORY, `${name}-${number}.http`), anonymous, "latin1");
  }
}
