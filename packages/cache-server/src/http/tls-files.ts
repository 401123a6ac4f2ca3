import { unwatchFile, watchFile } from "node:fs";
import { readFile } from "node:fs/promises";
import { createSecureContext, type Server } from "node:tls";

import { CacheError, type Logger } from "@glorious/core";

/** Paths of PEM files. */
export interface TlsFiles {
  readonly cert: string;
  readonly key: string;
  /** When given, clients must show a certificate of this authority. */
  readonly clientCa?: string | undefined;
  /** How often they are looked at: file events do not see what a Kubernetes secret does. */
  readonly reloadIntervalMs: number;
}

export interface TlsMaterial {
  readonly minVersion: "TLSv1.2";
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly ca?: Buffer;
  readonly requestCert?: boolean;
  readonly rejectUnauthorized?: boolean;
}

/** @throws {CacheError} `CONFIG` naming the files that cannot be read or do not fit together. */
export async function readTlsFiles({ cert, key, clientCa }: TlsFiles): Promise<TlsMaterial> {
  const [certText, keyText, caText] = await Promise.all([
    readPem(cert, "certificate"),
    readPem(key, "private key"),
    clientCa === undefined ? undefined : readPem(clientCa, "client authority"),
  ]);
  const material: TlsMaterial = {
    minVersion: "TLSv1.2",
    cert: certText,
    key: keyText,
    ...(caText === undefined ? {} : { ca: caText, requestCert: true, rejectUnauthorized: true }),
  };
  try {
    createSecureContext(material);
  } catch (cause) {
    const files = [cert, key, clientCa].filter((file) => file !== undefined).join(", ");
    throw new CacheError("CONFIG", `The TLS files ${files} cannot be used together`, {
      cause,
      hint: "They must be PEM, and the key must be that of the first certificate.",
    });
  }
  return material;
}

/**
 * Takes changed files into use for new connections. Files that do not fit together, as in the middle of a
 * renewal, are logged and the old ones stay. Returns what ends the watch.
 */
export function watchTlsFiles(files: TlsFiles, server: Server, logger: Logger): () => void {
  const paths = [files.cert, files.key, files.clientCa].filter((path) => path !== undefined);
  const reload = async (): Promise<void> => {
    try {
      server.setSecureContext(await readTlsFiles(files));
      logger.info("took the changed TLS files into use", { files: paths });
    } catch (error) {
      logger.error("the changed TLS files are unusable; the old ones stay", { error });
    }
  };
  const onChange = (): void => void reload();
  for (const path of paths) {
    watchFile(path, { interval: files.reloadIntervalMs, persistent: false }, onChange);
  }
  return () => {
    for (const path of paths) unwatchFile(path, onChange);
  };
}

async function readPem(file: string, what: string): Promise<Buffer> {
  try {
    return await readFile(file);
  } catch (cause) {
    throw new CacheError("CONFIG", `The TLS ${what} ${file} cannot be read`, { cause });
  }
}
