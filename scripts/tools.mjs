/**
 * Brings the real tools that the tests and the bench drive: `pnpm tools`.
 */
import process from "node:process";

import { actDirectory, bringAct } from "./setup/act.mjs";
import { bringDebianPackages } from "./setup/debian-packages.mjs";
import { DEBIAN_ROOTS, bringDebianRoot, debianRootDirectory } from "./setup/debian-roots.mjs";
import { bringOlderNode, olderNodeDirectory } from "./setup/older-node.mjs";
import { PORTABLE_NIX, bringPortableNix, portableNixDirectory } from "./setup/portable-nix.mjs";
import { bringUnpackedDebian } from "./setup/unpacked-debian.mjs";

const say = (line) => console.log(line);
const missing = [];

const debian = await bringDebianPackages(say);
if (debian !== undefined) missing.push(debian);
for (const nix of PORTABLE_NIX) {
  const reason = await bringPortableNix(nix, say);
  if (reason === undefined) say(`Nix ${nix.version}: ${portableNixDirectory(nix.version)}`);
  else missing.push(`Nix ${nix.version}: ${reason}`);
}
const unpacked = await bringUnpackedDebian(say);
if (unpacked !== undefined) missing.push(`nginx, wrk and h2load: ${unpacked}`);
for (const root of DEBIAN_ROOTS) {
  const reason = await bringDebianRoot(root, say);
  const tools = root.tools.join(", ");
  if (reason === undefined) say(`${tools} of ${root.suite}: ${debianRootDirectory(root.suite)}`);
  else missing.push(`${tools} of ${root.suite}: ${reason}`);
}
const act = await bringAct(say);
if (act === undefined) say(`act: ${actDirectory()}`);
else missing.push(`act: ${act}`);
const node = await bringOlderNode(say);
if (node === undefined) say(`older Nodes: ${olderNodeDirectory()}`);
else missing.push(`older Nodes: ${node}`);
for (const reason of missing) console.error(`missing: ${reason}`);
process.exitCode = missing.length === 0 ? 0 : 1;
