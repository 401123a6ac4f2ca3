import { createPrivateKey, createPublicKey, randomBytes } from "node:crypto";
import { readFile, stat } from "node:fs/promises";

import { CacheError } from "@glorious/core";
import type { TokenKey } from "@glorious/trust";

import { writeSecretFile } from "../secret-file.ts";
import type { TokenKeySetting } from "./setting-values.ts";

/** The keys of tokens: all verify, `signing` makes new tokens. */
export interface TokenKeys {
  readonly keys: readonly TokenKey[];
  readonly signing: TokenKey | undefined;
}

/** As much as the verifier demands; said here, where the file is known. */
const MIN_SECRET_BYTES = 32;

/** Reads the configured keys. @throws {CacheError} `CONFIG` naming the file that is unusable. */
export async function loadTokenKeys(settings: readonly TokenKeySetting[]): Promise<TokenKeys> {
  const loaded = await Promise.all(settings.map(loadKey));
  return {
    keys: loaded,
    signing: loaded.find((key) => key.algorithm === "HS256" || key.privateKey !== undefined),
  };
}

/** The embedded server's own key, made at the first start. */
export async function openOwnTokenKey(file: string): Promise<TokenKeys> {
  const exists = await stat(file).then(
    () => true,
    () => false,
  );
  if (!exists) await writeSecretFile(file, `${randomBytes(64).toString("base64")}\n`);
  return loadTokenKeys([{ algorithm: "HS256", file }]);
}

async function loadKey({ algorithm, file, kid }: TokenKeySetting): Promise<TokenKey> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (cause) {
    throw new CacheError("CONFIG", `The token key ${file} cannot be read`, { cause });
  }
  const named = kid === undefined ? {} : { kid };
  if (algorithm === "HS256") {
    const secret = Buffer.from(text.trim(), "base64");
    if (secret.length >= MIN_SECRET_BYTES) return { ...named, algorithm, secret };
    throw new CacheError(
      "CONFIG",
      `The token key ${file} holds no ${MIN_SECRET_BYTES} bytes in base64`,
      {
        hint: "Make one with `openssl rand -base64 64`.",
      },
    );
  }
  // Attic's settings hold the PEM once more in base64.
  const pem = text.includes("-----BEGIN") ? text : Buffer.from(text, "base64").toString("utf8");
  try {
    if (!pem.includes("PRIVATE KEY"))
      return { ...named, algorithm, publicKey: createPublicKey(pem) };
    const privateKey = createPrivateKey(pem);
    return { ...named, algorithm, privateKey, publicKey: createPublicKey(pem) };
  } catch {
    // The cause could show a part of the key.
    throw new CacheError("CONFIG", `The token key ${file} is no RSA key in PEM form`, {
      hint: "Make one with `openssl genrsa -traditional 4096`.",
    });
  }
}
