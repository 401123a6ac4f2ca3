import { resolve } from "node:path";

import type { AdminClient } from "@glorious/cache-client";
import { CacheError, describeError, isCacheError } from "@glorious/core";
import { formatPublicKey, parseSecretKey, toPublicKey } from "@glorious/nix-store";

import { type CliContext, note, warn } from "../cli-context.ts";
import { readOptionalFile } from "../read-file.ts";
import { UsageError } from "../usage-error.ts";
import type { Origin } from "./open-origins.ts";

/**
 * Gives a view what its origin's server says of the cache: who may read, priority, upstream keys, how long unused paths
 * are kept; and, when asked, the key that signs. Makes the view when there is none.
 *
 * @throws {CacheError} `UNSUPPORTED` for an origin that says none of it; what the server says.
 */
export async function carrySettings(
  admin: AdminClient,
  { view, source, config, secretKey }: Origin,
  withKeys: boolean,
  context: CliContext,
): Promise<void> {
  if (config === undefined) {
    throw new CacheError("UNSUPPORTED", `${source.name} says nothing of a view's settings`, {
      hint: "Leave --with-settings out, and use flywheel view create and view configure.",
    });
  }
  const { isPublic, storeDir, priority, upstreamCacheKeyNames, retentionPeriod } = config;
  const settings = {
    ...(isPublic === undefined ? {} : { isPublic }),
    ...(priority === undefined ? {} : { priority }),
    ...(upstreamCacheKeyNames === undefined ? {} : { upstreamCacheKeyNames }),
  };
  const keypair = withKeys ? secretKey : undefined;
  if (await exists(admin, view)) {
    await admin.configureView(view, settings);
    if (keypair !== undefined) await addKeyOnce(admin, view, keypair);
  } else {
    await admin.createView(view, {
      ...settings,
      ...(storeDir === undefined ? {} : { storeDir }),
      ...(keypair === undefined ? {} : { keypair }),
    });
  }
  if (typeof retentionPeriod === "object") await admin.configureView(view, { retentionPeriod });
  const key = keypair === undefined ? "" : `, and its key ${parseSecretKey(keypair).name}`;
  note(context, `${view} has the settings of ${source.name}${key}.`);
}

async function exists(admin: AdminClient, view: string): Promise<boolean> {
  try {
    await admin.viewConfig(view);
    return true;
  } catch (error) {
    if (isCacheError(error, "NOT_FOUND")) return false;
    throw error;
  }
}

async function addKeyOnce(admin: AdminClient, view: string, keypair: string): Promise<void> {
  const publicKey = formatPublicKey(toPublicKey(parseSecretKey(keypair)));
  const { keys } = await admin.listKeys(view);
  if (keys.some((key) => key.publicKey === publicKey)) return;
  await admin.addKey(view, keypair);
}

/** Reads a list of pins. @throws {UsageError} for a line that is none. */
export async function readPins(
  file: string | undefined,
  context: CliContext,
): Promise<ReadonlyMap<string, string>> {
  if (file === undefined) return new Map();
  const text = await readOptionalFile(resolve(context.workingDirectory, file), "utf8");
  if (text === undefined) throw new CacheError("NOT_FOUND", `The file ${file} does not exist`);
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  return new Map(
    lines.map((line) => {
      const [, name, storePath] = /^\s*(\S+)\s+(\/\S+)\s*$/.exec(line) ?? [];
      if (name !== undefined && storePath !== undefined) return [name, storePath];
      throw new UsageError(
        `${file} has a line that is no pin: ${JSON.stringify(line.slice(0, 100))}`,
        "Write a name and a store path on each line.",
      );
    }),
  );
}

/** Pins what its origin pins, as far as the view has it, and returns how many pins failed. */
export async function carryPins(
  admin: AdminClient,
  { view, pins = new Map() }: Pick<Origin, "view" | "pins">,
  context: CliContext,
): Promise<number> {
  let failed = 0;
  for (const [name, storePath] of pins) {
    try {
      await admin.putPin(view, name, storePath);
    } catch (error) {
      if (!(error instanceof CacheError) || error.code === "CANCELLED") throw error;
      failed += 1;
      warn(context, `the pin ${name} was not carried over: ${describeError(error)}`);
    }
  }
  const kept = pins.size - failed;
  if (kept > 0) note(context, `${view} has ${kept} of ${pins.size} pins.`);
  return failed;
}
