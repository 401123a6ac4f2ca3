import { createHash } from "node:crypto";
import { readdir } from "node:fs/promises";
import path from "node:path";
import { DatabaseSync } from "node:sqlite";

import type { PathInfo } from "@glorious/cache-client";
import {
  decodeZstd,
  formatHash,
  type NarInfo,
  narInfoFingerprint,
  parseNarInfo,
  parsePublicKey,
  verifySignature,
} from "@glorious/nix-store";

import type { Target } from "../traffic/clients.ts";
import type { Expectations } from "./history.ts";

/** What a check found. */
export interface Findings {
  /** Promises that the server broke, one sentence each. */
  readonly violations: readonly string[];
  /** Store path hashes that the server has. */
  readonly present: ReadonlySet<string>;
}

const CHECKS_AT_ONCE = 8;

/**
 * Holds a running server against what its clients were promised: what was acknowledged is there and bit-exact
 * under a right signature, nothing wrong is served, no closure is half visible, no narinfo points at nothing.
 */
export async function checkServer(
  target: Target & { readonly publicKey: string },
  expectations: Expectations,
): Promise<Findings> {
  const violations: string[] = [];
  const present = new Set<string>();
  const queue = [...expectations.paths];
  const work = async (): Promise<void> => {
    for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
      const { path: info, mayBePresent, mayBeAbsent } = next;
      const name = info.storePath.baseName;
      try {
        const isPresent = await checkPath(target, info);
        if (isPresent) present.add(info.storePath.hash);
        if (isPresent && !mayBePresent) violations.push(`${name} is there and was deleted`);
        if (!isPresent && !mayBeAbsent) violations.push(`${name} was acknowledged and is gone`);
      } catch (error) {
        const reason = error instanceof Violation ? error.message : String(error);
        violations.push(`${name}${mayBeAbsent ? "" : ", acknowledged,"} is wrong: ${reason}`);
      }
    }
  };
  await Promise.all(Array.from({ length: CHECKS_AT_ONCE }, work));

  for (const { path: info } of expectations.paths) {
    if (!present.has(info.storePath.hash)) continue;
    for (const reference of info.references) {
      if (!present.has(reference.slice(0, 32))) {
        violations.push(`${info.storePath.baseName} is visible without its reference ${reference}`);
      }
    }
  }
  for (const group of expectations.groups) {
    const visible = group.filter(({ storePath }) => present.has(storePath.hash)).length;
    if (visible !== 0 && visible !== group.length) {
      violations.push(`Of a closure's ${group.length} paths ${visible} are visible`);
    }
  }
  for (const token of expectations.revokedTokens) {
    const { status } = await get(target, `${target.view}/nix-cache-info`, token);
    if (status !== 401) violations.push(`A revoked token gets ${status}`);
  }
  for (const view of expectations.views) {
    const { status } = await get(target, `${view}/nix-cache-info`);
    if (status !== 200) violations.push(`The view ${view} was made and answers ${status}`);
  }
  return { violations: violations.sort(), present };
}

/** Whether the server still accepts a token. */
export async function isTokenGood(target: Target): Promise<boolean> {
  return (await get(target, `${target.view}/nix-cache-info`)).status === 200;
}

/** What must be true of a data directory while its server is idle: nothing is left over, and the index is sound. */
export async function checkDataDirectory(dataDirectory: string): Promise<string[]> {
  const violations: string[] = [];
  const temporary = path.join(dataDirectory, "store", "tmp");
  const names = await readdir(temporary);
  const locks = names.filter((name) => name.endsWith(".lock"));
  if (locks.length !== 1) violations.push(`There are ${locks.length} locks of writers`);
  for (const name of names) {
    // An empty file of a server that died while it made its lock; it stays for a day, since it cannot be told
    // from one that is being made.
    if (locks.includes(name) || name.endsWith(".lock.opening")) continue;
    if (!locks.includes(`${name}.lock`)) violations.push(`store/tmp/${name} is left over`);
    else {
      for (const file of await readdir(path.join(temporary, name))) {
        violations.push(`store/tmp/${name}/${file} is left over`);
      }
    }
  }
  for (const name of await readdir(dataDirectory)) {
    if (name.endsWith(".tmp")) violations.push(`${name} is left over`);
  }
  using database = new DatabaseSync(path.join(dataDirectory, "index.sqlite"), { readOnly: true });
  const sound = database.prepare("PRAGMA integrity_check").get()?.["integrity_check"];
  if (sound !== "ok") violations.push(`The index is damaged: ${String(sound)}`);
  if (database.prepare("PRAGMA foreign_key_check").all().length > 0) {
    violations.push("The index has rows that refer to nothing");
  }
  const known = new Set(
    database
      .prepare("SELECT lower(hex(file_hash)) AS hash FROM objects")
      .all()
      .map(({ hash }) => String(hash)),
  );
  const blobs = path.join(dataDirectory, "store", "blobs", "nar");
  const files = await readdir(blobs, { recursive: true, withFileTypes: true }).catch(() => []);
  for (const file of files) {
    if (file.isFile() && !known.has(file.name)) {
      violations.push(`The blob ${file.name} is unknown to the index and will never go`);
    }
  }
  return violations;
}

/** A broken promise, against a server that could not be asked. */
export class Violation extends Error {}

/** Whether the path is there; `beforeNar` has its narinfo already. @throws {Violation} when it is there and wrong. */
export async function checkPath(
  target: Target & { readonly publicKey: string },
  expected: PathInfo,
  beforeNar: () => Promise<void> = () => Promise.resolve(),
): Promise<boolean> {
  const { hash } = expected.storePath;
  const answer = await get(target, `${target.view}/${hash}.narinfo`);
  if (answer.status === 404) return false;
  if (answer.status !== 200) throw new Violation(`its narinfo answers ${answer.status}`);
  const info = parseNarInfo(answer.body.toString());
  checkNarInfo(info, expected, target.publicKey);
  await beforeNar();
  const nar = await get(target, `${target.view}/${info.url}`);
  if (nar.status !== 200)
    throw new Violation(`its narinfo is there, its NAR answers ${nar.status}`);
  if (nar.body.length !== info.fileSize) {
    throw new Violation(`its NAR has ${nar.body.length} bytes, not ${info.fileSize}`);
  }
  if (info.fileHash === undefined || sha256(nar.body) !== info.fileHash.bytes.toString("hex")) {
    throw new Violation("its NAR does not have the narinfo's FileHash");
  }
  const decoded = createHash("sha256");
  for await (const chunk of decodeZstd(once(nar.body))) decoded.update(chunk);
  if (decoded.digest("hex") !== expected.narHash) throw new Violation("its NAR has other bytes");
  return true;
}

function checkNarInfo(info: NarInfo, expected: PathInfo, publicKey: string): void {
  const { storePath, narHash, narSize, references } = info;
  const isRight =
    storePath === expected.storePath.path &&
    formatHash(narHash, "base16") === `sha256:${expected.narHash}` &&
    narSize === expected.narSize &&
    references.toSorted().join(" ") === expected.references.toSorted().join(" ");
  if (!isRight) throw new Violation("its narinfo says something else than was pushed");
  const fingerprint = narInfoFingerprint({ storePath, narHash, narSize, references });
  const keys = [parsePublicKey(publicKey)];
  if (!info.signatures.some((signature) => verifySignature(keys, fingerprint, signature))) {
    throw new Violation("its narinfo has no signature of the view's key");
  }
}

async function get(
  { url, token }: Target,
  file: string,
  otherToken: string = token,
): Promise<{ readonly status: number; readonly body: Buffer }> {
  const response = await fetch(new URL(file, `${url}/`), {
    headers: { authorization: `Bearer ${otherToken}` },
    signal: AbortSignal.timeout(30_000),
  });
  return { status: response.status, body: Buffer.from(await response.arrayBuffer()) };
}

async function* once(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes;
}

function sha256(bytes: Buffer): string {
  return createHash("sha256").update(bytes).digest("hex");
}
