import { isCacheError, type Logger } from "@glorious/core";

import type { UpstreamRecord } from "../index/upstream-index.ts";
import type { Collector } from "./collector.ts";

/** Keeps what is fetched from each upstream within its limit while it is being fetched. */
export interface UpstreamSpace {
  /** Says that so many bytes of an upstream were stored; it is collected now and then. */
  stored(upstream: UpstreamRecord, fileBytes: number): void;
}

export interface UpstreamSpaceOptions {
  readonly collector: Pick<Collector, "collectUpstream">;
  readonly logger: Logger;
  /** Of an upstream that has no limit of its own. */
  readonly maxSizeBytes: number;
}

/** A collection goes through everything that an upstream has. */
const SHARE_BETWEEN_COLLECTIONS = 1 / 20;

export function createUpstreamSpace(options: UpstreamSpaceOptions): UpstreamSpace {
  const { collector, logger } = options;
  /** By name: bytes since it was collected. */
  const grown = new Map<string, number>();

  const collect = async (name: string): Promise<void> => {
    try {
      await collector.collectUpstream(name, { isDryRun: false });
    } catch (error) {
      // Taken away, or the server is stopping.
      if (isCacheError(error, "NOT_FOUND") || isCacheError(error, "CANCELLED")) return;
      logger.error("a collection failed", { upstream: name, error });
    }
  };

  return {
    stored({ name, maxSizeBytes = options.maxSizeBytes }, fileBytes) {
      const bytes = (grown.get(name) ?? 0) + fileBytes;
      const isMuch = bytes > maxSizeBytes * SHARE_BETWEEN_COLLECTIONS;
      grown.set(name, isMuch ? 0 : bytes);
      if (isMuch) void collect(name);
    },
  };
}
