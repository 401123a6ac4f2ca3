import type { Cache, PushEvent } from "@glorious/cache-client";
import { CacheError, formatCount, isCacheError, parseDurationMs } from "@glorious/core";
import { DEFAULT_STORE_DIR } from "@glorious/nix-store";
import { openLocalStore } from "@glorious/runner-agent";

import { type CliContext, note, printLine, warn } from "../cli-context.ts";
import { type Command, defineCommand, flag, text, value } from "../command.ts";
import { wholeNumber } from "../parse-number.ts";
import {
  chooseServer,
  requireView,
  SERVER_ENVIRONMENT,
  SERVER_OPTIONS,
  VIEW_OPTION,
} from "../server-options.ts";
import { UsageError } from "../usage-error.ts";
import { describeWatchEvent, type WatchEvent } from "../watch-store/watch-events.ts";
import { watchStore } from "../watch-store/watch-store.ts";

const DEFAULT_DRAIN_MS = 60_000;
const DEFAULT_POLL_MS = 60_000;
const NIX_TIMEOUT_MS = 300_000;

export const command: Command = defineCommand({
  name: "watch-store",
  summary: "Push new store paths as they appear",
  description: `Watches this machine's Nix store. What becomes valid is pushed with all it refers to, two seconds after
it got quiet and at the latest after ten; what the view has, or an upstream has signed, is left out. What
cannot be pushed now is tried again until it can. SIGTERM or SIGINT ends the watch: what is new by then
is still pushed, for as long as --drain says. Exit code 0: everything was pushed.`,
  options: {
    ...SERVER_OPTIONS,
    ...VIEW_OPTION,
    onceQuietFor: value("TIME", "End when nothing was new for TIME", parseDurationMs),
    drain: value("TIME", "How long the end may take; default 60s", parseDurationMs),
    poll: value("TIME", "How often Nix is asked for all paths; default 60s", positiveDurationMs),
    noSources: flag("Leave out sources: paths whose names end in -source"),
    jobs: value("N", "Uploads at the same time", wholeNumber(1, 256), { short: "j" }),
    nix: text("COMMAND", "The Nix command; default nix", { completes: "file" }),
    json: flag("Print what happens as lines of JSON"),
  },
  environment: SERVER_ENVIRONMENT,
  examples: [
    { comment: "Push whatever is built on this machine", command: "flywheel watch-store" },
    {
      comment: "Beside a CI job: end when the builds have been over for a while",
      command: "flywheel watch-store --view main --once-quiet-for 30s",
    },
  ],
  async run({ options }, context) {
    if (options.tokenFile === "-") {
      throw new UsageError("--token-file: the token is read again when it expires, name a file");
    }
    const emit = createReporter(options.json, context);
    const connection = await openConnection(options, emit, context);
    try {
      const { cache, view } = connection;
      const { queryClosure } = await import("@glorious/cache-client");
      const storeDir = cache().config.storeDir ?? DEFAULT_STORE_DIR;
      // Nix must be able to answer while the watch drains, when the context's signal has fired.
      const unstoppable = new AbortController().signal;
      const run = { env: context.env, signal: unstoppable, timeoutMs: NIX_TIMEOUT_MS };
      const store = openLocalStore(options.nix ?? "nix", storeDir, run);
      const result = await watchStore({
        store,
        rules: { skipSources: options.noSources },
        emit,
        onReady: () => emit({ type: "watching", server: cache().server, view, storeDir }),
        signal: context.signal,
        drainMs: options.drain ?? DEFAULT_DRAIN_MS,
        quietForMs: options.onceQuietFor,
        pollMs: options.poll ?? DEFAULT_POLL_MS,
        nowMs: () => performance.now(),
        random: Math.random,
        push: async (paths, signal) => {
          const closure = await queryClosure(paths, {
            recursive: true,
            nix: options.nix,
            storeDir,
            signal,
          });
          await connection.renewing(async () => {
            const summary = await cache().push(closure, {
              concurrency: options.jobs,
              signal,
              onEvent: (event) => reportPush(event, emit),
            });
            emit({
              type: "pushed",
              storePaths: paths,
              uploaded: summary.uploaded,
              deduplicated: summary.deduplicated,
              alreadyPresent: summary.alreadyPresent,
              skipped: summary.skipped.reduce((sum, group) => sum + group.storePaths.length, 0),
              conflicts: summary.conflicts.length,
              sentBytes: summary.sentBytes,
              durationMs: Math.round(summary.durationMs),
            });
          });
        },
      });
      emit({ type: "stopped", ...result });
      requireComplete(result);
    } finally {
      await connection[Symbol.asyncDispose]();
    }
  },
});

interface Connection extends AsyncDisposable {
  readonly view: string;
  readonly cache: () => Cache;
  /** Runs a push; when the server refuses the token, it is read anew for the next try. */
  readonly renewing: (push: () => Promise<void>) => Promise<void>;
}

async function openConnection(
  options: {
    readonly server: string | undefined;
    readonly tokenFile: string | undefined;
    readonly view: string | undefined;
  },
  emit: (event: WatchEvent) => void,
  context: CliContext,
): Promise<Connection> {
  const { openCache } = await import("@glorious/cache-client");
  const open = async (signal?: AbortSignal): Promise<Cache> => {
    const choice = await chooseServer(options, context);
    return openCache({
      ...choice,
      view: requireView(options.view, choice),
      signal,
      // The watch itself is the patient one.
      retry: { maxAttempts: 3, maxTotalMs: 30_000 },
      onEvent: (event) => reportPush(event, emit),
    });
  };
  let current = await open(context.signal);
  return {
    view: current.view,
    cache: () => current,
    async renewing(push) {
      try {
        await push();
      } catch (error) {
        if (isCacheError(error, "UNAUTHENTICATED") || isCacheError(error, "FORBIDDEN")) {
          const renewed = await open().catch(() => undefined);
          if (renewed !== undefined) {
            await current[Symbol.asyncDispose]();
            current = renewed;
          }
        }
        throw error;
      }
    },
    [Symbol.asyncDispose]: () => current[Symbol.asyncDispose](),
  };
}

function reportPush(event: PushEvent, emit: (event: WatchEvent) => void): void {
  if (event.type === "warning") emit({ type: "warning", message: event.message });
}

function createReporter(isJson: boolean, context: CliContext): (event: WatchEvent) => void {
  if (isJson) return (event) => printLine(context, JSON.stringify(event));
  return (event) => {
    const line = describeWatchEvent(event);
    if (event.type === "pushed") printLine(context, line);
    else if (event.type === "warning" || event.type === "refused") warn(context, line);
    else note(context, line);
  };
}

function requireComplete(result: {
  readonly refused: number;
  readonly unpushed: readonly string[];
}): void {
  const { refused, unpushed } = result;
  const [first] = unpushed;
  if (first !== undefined) {
    const more = unpushed.length === 1 ? "" : ` and ${unpushed.length - 1} more`;
    throw new CacheError("CANCELLED", `There was no time to push ${first}${more}`, {
      hint: "Allow more with --drain, or push them with `flywheel push`.",
    });
  }
  if (refused > 0) {
    throw new CacheError("CONFLICT", `${formatCount(refused, "path was", "paths were")} refused`, {
      hint: "The lines above say which, and why.",
    });
  }
}

function positiveDurationMs(given: string): number {
  const durationMs = parseDurationMs(given);
  if (durationMs > 0) return durationMs;
  throw new CacheError("INVALID", `${JSON.stringify(given)} is too short`);
}
