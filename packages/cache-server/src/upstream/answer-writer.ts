import { describeError, type Logger } from "@glorious/core";

import type { UpstreamIndex, UpstreamPath } from "../index/upstream-index.ts";

/**
 * Writes what upstreams said into the index, many answers at a time: each write ends what is remembered of the index
 * before it. Those that a crash takes are asked for again.
 */
export interface AnswerWriter {
  add(answer: UpstreamPath): void;
  /** Writes what is left. */
  stop(): Promise<void>;
}

const PAUSE_MS = 200;
const MAX_ANSWERS = 1000;

export function createAnswerWriter(
  index: Pick<UpstreamIndex, "putUpstreamPaths">,
  logger: Logger,
): AnswerWriter {
  let waiting: UpstreamPath[] = [];
  let timer: NodeJS.Timeout | undefined;
  let running: Promise<void> = Promise.resolve();

  const write = (): Promise<void> => {
    clearTimeout(timer);
    timer = undefined;
    const answers = waiting;
    waiting = [];
    if (answers.length === 0) return running;
    running = running.then(async () => {
      try {
        await index.putUpstreamPaths(answers);
      } catch (error) {
        logger.warn("answers of upstreams were not kept", { error: describeError(error) });
      }
    });
    return running;
  };

  return {
    add(answer) {
      waiting.push(answer);
      if (waiting.length >= MAX_ANSWERS) void write();
      else timer ??= setTimeout(() => void write(), PAUSE_MS);
    },
    stop: write,
  };
}
