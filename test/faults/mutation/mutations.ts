/** A protection of the server, how to remove it, and what the crash tests must then find. */
export interface Mutation {
  readonly protection: string;
  readonly edits: ReadonlyArray<{
    /** The end of the source file's path. */
    readonly file: string;
    readonly find: string;
    readonly replace: string;
  }>;
  /** Where the server is killed: a rule of the recorder. */
  readonly rule: string;
  /** Whether the server after the crash lacks the protection as well. */
  readonly staysRemoved: boolean;
  readonly finds: RegExp;
}

const COMMIT = "await committer.commit(view, paths, await commitOptionsOf(exchange))";

export const MUTATIONS: readonly Mutation[] = [
  {
    protection: "a closure is committed in one transaction",
    edits: [
      {
        file: "/cache-server/src/routes/flywheel-push.ts",
        find: COMMIT,
        replace: `await (async () => {
          const options = await commitOptionsOf(exchange);
          let last;
          for (const path of paths) last = await committer.commit(view, [path], options);
          return last;
        })()`,
      },
    ],
    rule: "kill-after|sync|data/index.sqlite-wal|",
    staysRemoved: false,
    finds: /^Of a closure's \d+ paths \d+ are visible$/,
  },
  {
    protection: "nothing is acknowledged before it is done",
    edits: [
      {
        file: "/cache-server/src/routes/flywheel-push.ts",
        find: COMMIT,
        replace: `await (async () => {
          const options = await commitOptionsOf(exchange);
          setTimeout(() => void committer.commit(view, paths, options), 200);
          return { kind: "committed", created: [], unchanged: [], conflicts: [] };
        })()`,
      },
    ],
    rule: "kill-after|rename|data/store/blobs/*|",
    staysRemoved: false,
    finds: /was acknowledged and is gone$/,
  },
  {
    protection: "what a dead writer left is removed",
    edits: [
      {
        file: "/storage/src/filesystem-store.ts",
        find: "const removed = await store.cleanUp();",
        replace: "const removed = { removedFiles: 0, removedBytes: 0 };",
      },
    ],
    rule: "kill-before|rename|data/store/blobs/*|",
    staysRemoved: true,
    finds: /is left over$/,
  },
];

/** The environment of a server without the protection. */
export function mutatedEnvironment({ edits }: Pick<Mutation, "edits">): Record<string, string> {
  const preload = new URL("./preload.ts", import.meta.url);
  return {
    FAULTS_MUTATION: JSON.stringify(edits),
    NODE_OPTIONS: `--import=${preload.href}`,
    // Sources are compiled from memory here, which the cache does not expect.
    NODE_DISABLE_COMPILE_CACHE: "1",
  };
}
