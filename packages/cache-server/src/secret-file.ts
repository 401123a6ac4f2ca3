import { open, rename } from "node:fs/promises";
import { dirname } from "node:path";

/**
 * Writes a file that only its owner may read: complete and durable, or not at all. One writer at a time.
 *
 * What a crash leaves beside it is overwritten by the next write, so that no secret stays there unseen.
 */
export async function writeSecretFile(file: string, text: string): Promise<void> {
  const temporary = `${file}.tmp`;
  {
    await using handle = await open(temporary, "w", 0o600);
    // The mode above is ignored for a file that a crashed start left behind.
    await handle.chmod(0o600);
    await handle.writeFile(text);
    await handle.sync();
  }
  await rename(temporary, file);
  await using directory = await open(dirname(file), "r");
  await directory.sync();
}
