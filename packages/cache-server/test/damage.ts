import { open, readdir, rm, truncate } from "node:fs/promises";
import { join } from "node:path";

import type { TestServer } from "./test-server.ts";

/** What can happen to a stored object on disk. */
export const DAMAGES = ["deleted", "truncated", "flipped"] as const;
export type Damage = (typeof DAMAGES)[number];

/** Does something to an object's file, behind the server's back. */
export async function damageObject(
  server: Pick<TestServer, "directory">,
  fileHash: string,
  damage: Damage,
): Promise<void> {
  const file = await findObjectFile(server, fileHash);
  if (damage === "deleted") await rm(file);
  else if (damage === "truncated") await truncate(file, 5);
  else await flipByte(file);
}

export async function findObjectFile(
  { directory }: Pick<TestServer, "directory">,
  fileHash: string,
): Promise<string> {
  const root = join(directory, "store");
  const file = (await readdir(root, { recursive: true })).find((name) => name.endsWith(fileHash));
  if (file === undefined) throw new Error(`The store has no ${fileHash}`);
  return join(root, file);
}

/** Changes one bit in the middle, as a bad disk does. */
async function flipByte(file: string): Promise<void> {
  await using handle = await open(file, "r+");
  const { size } = await handle.stat();
  const position = Math.floor(size / 2);
  const byte = Buffer.alloc(1);
  await handle.read(byte, 0, 1, position);
  await handle.write(Buffer.from([(byte[0] ?? 0) ^ 1]), 0, 1, position);
}
