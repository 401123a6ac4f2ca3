import { CacheError, type CacheErrorCode, type CacheErrorOptions } from "@glorious/core";

/** A refusal whose answer carries, beside its code, a reason that programs may match on. */
export class ReasonedError extends CacheError {
  /** Lowercase words with hyphens; its meaning never changes. */
  readonly reason: string;

  constructor(
    code: CacheErrorCode,
    message: string,
    options: CacheErrorOptions & { readonly reason: string },
  ) {
    super(code, message, options);
    this.reason = options.reason;
  }
}
