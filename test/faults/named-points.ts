/** A moment in the server's life that a kill can be asked for by name: `operation|pattern` for the recorder. */
export interface NamedPoint {
  readonly name: string;
  readonly operation: string;
  readonly pattern: string;
  /** About how often one session of the tests comes by. */
  readonly often: number;
  /** Passed while the server starts, before it is ready. */
  readonly isStart?: boolean;
}

const BLOB_PART = "data/store/tmp/*/[0-9]*";
const BLOB = "data/store/blobs/*";
const LOG = "data/index.sqlite-wal";

/** Where the order of the server's steps matters; each can be hit just before, just after, or half-way. */
export const NAMED_POINTS: readonly NamedPoint[] = [
  { name: "a blob is begun", operation: "create", pattern: BLOB_PART, often: 30 },
  { name: "a blob is written", operation: "write", pattern: BLOB_PART, often: 30 },
  { name: "a blob is flushed", operation: "sync", pattern: BLOB_PART, often: 30 },
  { name: "a folder of blobs is made", operation: "mkdir", pattern: BLOB, often: 30 },
  { name: "a blob gets its name", operation: "rename", pattern: BLOB, often: 30 },
  { name: "a blob's name is flushed", operation: "sync-directory", pattern: BLOB, often: 50 },
  { name: "a blob is swept away", operation: "unlink", pattern: BLOB, often: 2 },
  { name: "the index's log is written", operation: "write", pattern: LOG, often: 500 },
  { name: "the index's log is flushed", operation: "sync", pattern: LOG, often: 60 },
  { name: "a checkpoint", operation: "write", pattern: "data/index.sqlite", often: 100 },
  { name: "a checkpoint is flushed", operation: "sync", pattern: "data/index.sqlite", often: 1 },
  {
    name: "the log is recovered",
    operation: "sync",
    pattern: "data/index*",
    often: 3,
    isStart: true,
  },
  {
    name: "a secret gets its name",
    operation: "rename",
    pattern: "data/*",
    often: 4,
    isStart: true,
  },
  {
    name: "a writer gets its lock",
    operation: "rename",
    pattern: "data/store/tmp/*",
    often: 1,
    isStart: true,
  },
  {
    name: "a dead writer is removed",
    operation: "unlink",
    pattern: "data/store/tmp/*",
    often: 2,
    isStart: true,
  },
];
