import { UsageError } from "./usage-error.ts";

/** The hash of a digest that was given as `hash/size` or by its hash. @throws {UsageError} when it is neither. */
export function readDigestHash(digest: string): string {
  const hash = /^([0-9a-f]{64})(\/\d{1,15})?$/.exec(digest)?.[1];
  if (hash !== undefined) return hash;
  throw new UsageError(
    `${digest} is no digest`,
    "Give its hash of 64 lowercase hexadecimal digits, with /size behind it or without.",
  );
}
