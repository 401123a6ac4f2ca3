export { abortable, cancelledError } from "./abortable.ts";
export { type ByteBudget, createByteBudget } from "./byte-budget.ts";
export {
  CACHE_ERROR_CODES,
  CacheError,
  type CacheErrorCode,
  type CacheErrorOptions,
  describeError,
  isCacheError,
} from "./cache-error.ts";
export { type CircuitBreaker, createCircuitBreaker } from "./circuit-breaker.ts";
export { formatCount } from "./count.ts";
export { formatDurationMs, parseDurationMs } from "./duration.ts";
export { type LogFields, type Logger, silentLogger } from "./logger.ts";
export { makeFolder, type MakeFolderOptions } from "./make-folder.ts";
export { nearestWord } from "./nearest-word.ts";
export { quoteShell } from "./quote-shell.ts";
export { formatSizeBytes, parseSizeBytes } from "./size.ts";
