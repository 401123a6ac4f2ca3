import {
  ActionCache,
  ByteStream,
  Capabilities,
  ContentAddressableStorage,
  Fetch,
  Health,
  methodPath,
} from "@glorious/reapi";

/** What a method does, as far as the face has to know. */
export type MethodKind =
  | "capabilities"
  | "get-action"
  | "update-action"
  | "find-missing"
  | "batch-update"
  | "batch-read"
  | "get-tree"
  | "split"
  | "splice"
  | "read"
  | "write"
  | "query-write"
  | "fetch"
  | "health";

/** Methods by the path that they are called by. */
export const METHODS: ReadonlyMap<string, MethodKind> = new Map<string, MethodKind>([
  [methodPath(Capabilities, "getCapabilities"), "capabilities"],
  [methodPath(ActionCache, "getActionResult"), "get-action"],
  [methodPath(ActionCache, "updateActionResult"), "update-action"],
  [methodPath(ContentAddressableStorage, "findMissingBlobs"), "find-missing"],
  [methodPath(ContentAddressableStorage, "batchUpdateBlobs"), "batch-update"],
  [methodPath(ContentAddressableStorage, "batchReadBlobs"), "batch-read"],
  [methodPath(ContentAddressableStorage, "getTree"), "get-tree"],
  [methodPath(ContentAddressableStorage, "splitBlob"), "split"],
  [methodPath(ContentAddressableStorage, "spliceBlob"), "splice"],
  [methodPath(ByteStream, "read"), "read"],
  [methodPath(ByteStream, "write"), "write"],
  [methodPath(ByteStream, "queryWriteStatus"), "query-write"],
  [methodPath(Fetch, "fetchBlob"), "fetch"],
  [methodPath(Health, "check"), "health"],
]);

const WRITES: ReadonlySet<MethodKind> = new Set<MethodKind>([
  "update-action",
  "batch-update",
  "splice",
  "write",
  "query-write",
]);

/** Whether it puts something into the cache. */
export function isWrite(kind: MethodKind): boolean {
  return WRITES.has(kind);
}

/** Whether its answer comes in several messages. */
export function isStreamed(kind: MethodKind): boolean {
  return kind === "read" || kind === "get-tree";
}
