import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { CacheError } from "@glorious/core";
import {
  ActionResultNeeds,
  ActionResultSchema,
  type DigestKey,
  DigestList,
  inlineActionResult,
  type InlineWishes,
  listInlineCandidates,
  parseHash,
  readActionResult,
  readDirectory,
  readTree,
} from "@glorious/reapi";

import type { BazelScope, StoredBlob } from "../store/bazel-store.ts";
import { readContent } from "./blob-content.ts";
import type { InstanceAccess } from "./instance-access.ts";

/** Why an ActionResult was not given. */
export type ActionMiss = "absent" | "incomplete";

export type ActionAnswer =
  | { readonly kind: "hit"; readonly result: Buffer }
  | { readonly kind: "miss"; readonly reason: ActionMiss };

/** Counts a miss, by its reason. */
export function countMiss(
  { scope, counters }: Pick<InstanceAccess, "scope" | "counters">,
  key: DigestKey,
  reason: ActionMiss,
): void {
  if (reason === "incomplete") counters.actionsIncomplete += 1;
  else counters.actionsAbsent += 1;
  if (reason === "absent" && scope.wasEvicted(key)) counters.actionsEvicted += 1;
}

/** The largest Tree or Directory that is looked into; what holds a larger one counts as incomplete. */
const MAX_TREE_BYTES = 64 * 2 ** 20;
/** Directories below one root directory. */
const MAX_DIRECTORIES = 100_000;
/** What is put into one answer, so that it stays below the 4 MiB that clients take. */
const MAX_INLINED_BYTES = 3 * 2 ** 20;
/** The worker that an ActionResult without any content is said to come from: no answer may have no bytes. */
const WORKER = "flywheel";

/** Whether a caller asks for content inside the ActionResult. */
function hasWishes(wishes: InlineWishes): boolean {
  return wishes.inlineStdout || wishes.inlineStderr || wishes.inlineOutputFiles.length > 0;
}

/**
 * The ActionResult of an action, when everything it needs is there.
 *
 * @param wishes Content to put into it; hints, which go unheard beyond 3 MiB.
 */
export async function getActionResult(
  scope: BazelScope,
  key: DigestKey,
  wishes: InlineWishes,
): Promise<ActionAnswer> {
  let found = await scope.findAction(key);
  if (found.kind === "unresolved") {
    const { result } = found;
    const refersTo = await collectNeeds(scope, result);
    if (refersTo === undefined) return { kind: "miss", reason: "incomplete" };
    await scope.resolveAction(key, result, refersTo);
    found = await scope.findAction(key);
  }
  if (found.kind !== "hit") {
    return { kind: "miss", reason: found.kind === "absent" ? "absent" : "incomplete" };
  }
  const { result } = found;
  return { kind: "hit", result: hasWishes(wishes) ? await inlined(scope, result, wishes) : result };
}

/**
 * Stores an ActionResult, unless a whole one is there already whose place its writer may not take.
 *
 * @returns The stored one: actions that are not deterministic are built more than once, and the first result is
 *   as good as any of the same trust.
 * @throws {CacheError} `INVALID` when it is none that every client can use; `STORAGE_FULL`.
 */
export async function updateActionResult(
  scope: BazelScope,
  key: DigestKey,
  message: Uint8Array,
): Promise<Buffer> {
  const { inlinedFiles } = readActionResult(message, new ActionResultNeeds());
  const existing = await getActionResult(scope, key, NO_WISHES);
  if (existing.kind === "hit" && !scope.maySupersede(key)) return existing.result;
  const result = message.length === 0 ? emptyResult() : Buffer.from(message);
  if (inlinedFiles > 0) await storeInlined(scope, result);
  await scope.putAction(key, result, await collectNeeds(scope, result));
  return result;
}

const NO_WISHES: InlineWishes = { inlineStdout: false, inlineStderr: false, inlineOutputFiles: [] };

function emptyResult(): Buffer {
  const result = create(ActionResultSchema, { executionMetadata: { worker: WORKER } });
  return Buffer.from(toBinary(ActionResultSchema, result));
}

/** Everything an ActionResult needs, its trees' files too; `undefined` when a tree is missing or too large. */
async function collectNeeds(
  scope: BazelScope,
  result: Uint8Array,
): Promise<DigestList | undefined> {
  const needs = new ActionResultNeeds();
  readActionResult(result, needs);
  const { blobs, trees, directories } = needs;
  for (let index = 0; index < trees.length; index += 1) {
    const tree = await readMessage(scope, trees, index);
    if (tree === undefined) return undefined;
    readTree(tree, blobs);
  }
  const seen = new Set<string>();
  for (let index = 0; index < directories.length; index += 1) {
    const hash = directories.hash(index);
    if (seen.has(hash)) continue;
    seen.add(hash);
    if (seen.size > MAX_DIRECTORIES) return undefined;
    blobs.push(directories.keyView(index), directories.sizeBytes(index));
    const directory = await readMessage(scope, directories, index);
    if (directory === undefined) return undefined;
    readDirectory(directory, blobs, directories);
  }
  return blobs;
}

async function readMessage(
  scope: BazelScope,
  digests: DigestList,
  index: number,
): Promise<Buffer | undefined> {
  const sizeBytes = digests.sizeBytes(index);
  if (sizeBytes > MAX_TREE_BYTES) return undefined;
  const blob = await scope.findBlob({ key: digests.key(index), sizeBytes });
  return blob && (await readPresent(blob));
}

/** A blob's content, `undefined` when its bytes turn out to be lost. */
async function readPresent(blob: StoredBlob): Promise<Buffer | undefined> {
  try {
    return await readContent(blob, "identity");
  } catch (error) {
    if (error instanceof CacheError && error.code === "NOT_FOUND") return undefined;
    throw error;
  }
}

/** Clients may send files' content inside the ActionResult; later readers look for it in the CAS. */
async function storeInlined(scope: BazelScope, result: Uint8Array): Promise<void> {
  for (const { contents, digest, path } of fromBinary(ActionResultSchema, result).outputFiles) {
    if (contents.length === 0 || digest === undefined) continue;
    const upload = {
      key: parseHash(digest.hash),
      sizeBytes: Number(digest.sizeBytes),
      form: "identity",
      source: contents,
    } as const;
    await scope.putBlob(upload).catch((cause: unknown) => {
      if (!(cause instanceof CacheError) || cause.code === "STORAGE_FULL") throw cause;
      throw new CacheError(
        "INVALID",
        `output_files: the contents of ${path} are not its digest's`,
        {
          cause,
        },
      );
    });
  }
}

async function inlined(scope: BazelScope, result: Buffer, wishes: InlineWishes): Promise<Buffer> {
  const digests = new DigestList();
  const wanted = listInlineCandidates(result, wishes, digests);
  let inlinedBytes = result.length;
  const read = async (index: number | undefined): Promise<Buffer | undefined> => {
    if (index === undefined) return undefined;
    const sizeBytes = digests.sizeBytes(index);
    if (inlinedBytes + sizeBytes > MAX_INLINED_BYTES) return undefined;
    const blob = scope.lookUpBlob(digests, index);
    const content = blob && (await readPresent(blob));
    inlinedBytes += content?.length ?? 0;
    return content;
  };
  const stdout = await read(wanted.stdout);
  const stderr = await read(wanted.stderr);
  const files = new Map<string, Buffer>();
  for (const [path, index] of wanted.files) {
    const content = await read(index);
    if (content !== undefined) files.set(path, content);
  }
  return inlineActionResult(result, { stdout, stderr, files });
}
