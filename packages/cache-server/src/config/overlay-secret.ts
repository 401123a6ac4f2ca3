import { randomBytes } from "node:crypto";
import { readFile, stat } from "node:fs/promises";

import { CacheError } from "@glorious/core";

import { writeSecretFile } from "../secret-file.ts";

const SECRET_BYTES = 32;

/**
 * Reads the secret that the signing keys of overlays are derived from.
 *
 * @throws {CacheError} `CONFIG` naming the file, when it cannot be read or holds too little.
 */
export async function loadOverlaySecret(file: string): Promise<Buffer> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (cause) {
    throw new CacheError("CONFIG", `The overlays' key file ${file} cannot be read`, { cause });
  }
  const secret = Buffer.from(text.trim(), "base64");
  if (secret.length >= SECRET_BYTES) return secret;
  throw new CacheError(
    "CONFIG",
    `The overlays' key file ${file} holds no ${SECRET_BYTES} bytes in base64`,
    { hint: "Make one with `openssl rand -base64 32`." },
  );
}

/** The embedded server's own, made at the first start. */
export async function openOwnOverlaySecret(file: string): Promise<Buffer> {
  const exists = await stat(file).then(
    () => true,
    () => false,
  );
  if (!exists) await writeSecretFile(file, `${randomBytes(SECRET_BYTES).toString("base64")}\n`);
  return loadOverlaySecret(file);
}
