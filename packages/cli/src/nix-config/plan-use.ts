import {
  type BlockPlace,
  type FileChange,
  type FileState,
  keepChanged,
  readBlockLines,
  readUserText,
  rewriteBlock,
} from "@glorious/cache-client";
import { CacheError } from "@glorious/core";

import {
  formatNetrcBlock,
  type HostToken,
  netrcHost,
  parseNetrc,
  parseNetrcBlock,
} from "../user-files/netrc.ts";
import {
  addCache,
  EMPTY_BLOCK,
  formatNixConfBlock,
  type NixCache,
  type NixConfBlock,
  parseNixConf,
  parseNixConfBlock,
} from "./nix-conf.ts";

const OWNER = "flywheel use";
const SECRET = { isSecret: true };
const PUBLIC = { isSecret: false };

/** What is to be done, and what the user should know about it. */
export interface UsePlan {
  /** Only files that change. */
  readonly changes: readonly FileChange[];
  readonly warnings: readonly string[];
}

/** What {@link planUse} is about. */
export interface UseRequest {
  readonly cache: NixCache;
  /** Secret; `undefined` for a view that anybody may read. */
  readonly token: string | undefined;
  readonly nixConf: FileState;
  /** The file that {@link NixConfBlock.netrcFile} of the present block names, when there is one. */
  readonly oldNetrc: FileState | undefined;
  /** The file that tokens shall be in, and whether Nix has to be told. */
  readonly netrc: FileState;
  readonly setsNetrcFile: boolean;
  /** Public keys that Nix trusts already, from the user's own settings: `name:base64`. */
  readonly trustedKeys: readonly string[];
}

/**
 * Plans the configuration that lets Nix read a view: substituter, public key and token as one unit.
 *
 * Doing it again changes nothing. The user's own lines stay as they are, byte for byte.
 *
 * @throws {CacheError} `CORRUPT` when an earlier block is damaged, `CONFIG` when nix.conf cannot name
 * the netrc file.
 */
export function planUse(request: UseRequest): UsePlan {
  const { cache, token, netrc } = request;
  const old = readBlock(request.nixConf);
  const warnings = describeKeyClash(cache, [
    ...request.trustedKeys,
    ...old.caches
      .filter(({ substituter }) => substituter !== cache.substituter)
      .flatMap(({ publicKeys }) => publicKeys),
  ]);

  const oldTokens = request.oldNetrc === undefined ? [] : readTokens(request.oldNetrc);
  const tokens = token === undefined ? oldTokens : addToken(oldTokens, cache, token);
  if (token !== undefined) {
    warnings.push(...describeHostClash(request, token, old, oldTokens));
  }
  const hasTokens = tokens.length > 0;
  const block: NixConfBlock = {
    ...addCache(old, cache),
    netrcFile: hasTokens ? toNixConfPath(netrc.path) : undefined,
    setsNetrcFile: hasTokens && request.setsNetrcFile,
  };
  const moved = request.oldNetrc !== undefined && request.oldNetrc.path !== netrc.path;
  return {
    // The token first: until it is there, Nix would only get refusals from the substituter.
    changes: keepChanged([
      [netrc, rewrite(netrc, formatNetrcBlock(tokens), "top"), SECRET],
      [request.nixConf, rewrite(request.nixConf, formatNixConfBlock(block), "bottom"), PUBLIC],
      ...(moved && request.oldNetrc !== undefined
        ? [[request.oldNetrc, rewrite(request.oldNetrc, [], "top"), SECRET] as const]
        : []),
    ]),
    warnings,
  };
}

/** What {@link planUndo} is about. */
export interface UndoRequest {
  readonly nixConf: FileState;
  readonly netrc: FileState | undefined;
  /** Which caches to take out. */
  readonly isUnwanted: (cache: NixCache) => boolean;
}

/**
 * Plans to take caches out again. With the last one, the files are what they were before the first
 * {@link planUse}: byte for byte, and gone if there were none.
 *
 * @throws {CacheError} `CORRUPT` when the block is damaged.
 */
export function planUndo(
  request: UndoRequest,
): UsePlan & { readonly removed: readonly NixCache[] } {
  const old = readBlock(request.nixConf);
  const removed = old.caches.filter((cache) => request.isUnwanted(cache));
  const caches = old.caches.filter((cache) => !request.isUnwanted(cache));
  const hosts = new Set(caches.map(({ substituter }) => netrcHost(substituter)));
  const tokens =
    request.netrc === undefined
      ? []
      : readTokens(request.netrc).filter(({ host }) => hosts.has(host));
  const block: NixConfBlock = {
    caches,
    netrcFile: tokens.length > 0 ? old.netrcFile : undefined,
    setsNetrcFile: tokens.length > 0 && old.setsNetrcFile,
  };
  return {
    removed,
    changes: keepChanged([
      [request.nixConf, rewrite(request.nixConf, formatNixConfBlock(block), "bottom"), PUBLIC],
      ...(request.netrc === undefined
        ? []
        : [
            [
              request.netrc,
              rewrite(request.netrc, formatNetrcBlock(tokens), "top"),
              SECRET,
            ] as const,
          ]),
    ]),
    warnings: [],
  };
}

/** What our block in this nix.conf says; nothing when there is none. */
export function readBlock(nixConf: FileState): NixConfBlock {
  const lines = readBlockLines(nixConf, OWNER);
  return lines === undefined ? EMPTY_BLOCK : parseNixConfBlock(lines);
}

/** A path as text of one character a byte, and back. */
export function fromNixConfPath(path: string): string {
  return Buffer.from(path, "latin1").toString("utf8");
}

function toNixConfPath(path: string): string {
  if (/#|^\s|\s$|\s\s|[\t\r\n]/.test(path)) {
    throw new CacheError("CONFIG", `nix.conf cannot name the file ${JSON.stringify(path)}`, {
      hint: "Set netrc-file in your nix.conf to a file without # and double blanks in its name.",
    });
  }
  return Buffer.from(path, "utf8").toString("latin1");
}

function readTokens(netrc: FileState): HostToken[] {
  return parseNetrcBlock(readBlockLines(netrc, OWNER) ?? []);
}

function rewrite(file: FileState, lines: readonly string[], place: BlockPlace): string | undefined {
  return rewriteBlock(file, lines, { owner: OWNER, place });
}

function addToken(tokens: readonly HostToken[], cache: NixCache, token: string): HostToken[] {
  const host = netrcHost(cache.substituter);
  return [...tokens.filter((entry) => entry.host !== host), { host, token }];
}

function describeKeyClash(cache: NixCache, trustedKeys: readonly string[]): string[] {
  const names = cache.publicKeys
    .filter((ours) =>
      trustedKeys.some((key) => key !== ours && key.split(":")[0] === ours.split(":")[0]),
    )
    .map((ours) => ours.split(":")[0]);
  return names.map(
    (name) =>
      `Nix trusts another key with the name ${name} already, and heeds only one of a name: paths of one of the two caches will be refused. Give one of them a key of another name.`,
  );
}

function describeHostClash(
  request: UseRequest,
  token: string,
  block: NixConfBlock,
  tokens: readonly HostToken[],
): string[] {
  const { cache, netrc } = request;
  const host = netrcHost(cache.substituter);
  const warnings: string[] = [];
  const theirs = parseNetrc(readUserText(netrc, OWNER)).find((entry) => entry.host === host);
  if (theirs !== undefined && theirs.password !== token) {
    warnings.push(
      `${netrc.path} has an entry of your own for ${host}. Nix goes by the host alone, whatever the port, and takes the first entry: it now sends this view's token wherever it sent yours. \`flywheel use --undo\` brings yours back.`,
    );
  }
  const ours = tokens.find((entry) => entry.host === host);
  const neighbours = block.caches.filter(
    ({ substituter }) => substituter !== cache.substituter && netrcHost(substituter) === host,
  );
  if (ours !== undefined && ours.token !== token && neighbours.length > 0) {
    warnings.push(
      `Nix keeps one token per host, whatever the port: ${neighbours.map(({ substituter }) => substituter).join(", ")} now get this view's token too. Use one token that may pull from all of them.`,
    );
  }
  return warnings;
}

/** Public keys that these settings trust. */
export function readTrustedKeys(texts: readonly string[]): string[] {
  return texts.flatMap((text) =>
    parseNixConf(text).flatMap((entry) =>
      "name" in entry && /^(extra-)?trusted-public-keys$/.test(entry.name)
        ? entry.value.split(" ").filter((key) => key !== "")
        : [],
    ),
  );
}
