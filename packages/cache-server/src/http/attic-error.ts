import { CacheError, type CacheErrorCode, type CacheErrorOptions } from "@glorious/core";

/** The error kinds of Attic's API that its clients may see. */
export type AtticErrorKind =
  | "NotFound"
  | "NoSuchCache"
  | "NoSuchObject"
  | "Unauthorized"
  | "AccessError"
  | "CacheAlreadyExists"
  | "RequestError"
  | "InternalServerError";

export interface AtticErrorOptions extends CacheErrorOptions {
  /** The status on Attic's routes, where it differs from our code's. */
  readonly status?: number;
}

/** A failure for which Attic says more, or another status, than our code does; elsewhere its code counts. */
export class AtticError extends CacheError {
  readonly kind: AtticErrorKind;
  readonly status: number | undefined;

  constructor(
    kind: AtticErrorKind,
    code: CacheErrorCode,
    message: string,
    options: AtticErrorOptions = {},
  ) {
    super(code, message, options);
    this.kind = kind;
    this.status = options.status;
  }
}
