import { CacheError, type CacheErrorCode } from "@glorious/core";

const CODES: Readonly<Record<string, readonly [CacheErrorCode, string]>> = {
  ENOENT: ["NOT_FOUND", "does not exist"],
  ENOTDIR: ["NOT_FOUND", "does not exist"],
  EACCES: ["FORBIDDEN", "may not be read by this user"],
  EPERM: ["FORBIDDEN", "may not be read by this user"],
  EIO: ["CORRUPT", "cannot be read: the disk reports an error"],
  ELOOP: ["CORRUPT", "changed while it was read"],
  EMFILE: ["UNAVAILABLE", "cannot be opened: this process has too many files open"],
  ENFILE: ["UNAVAILABLE", "cannot be opened: this machine has too many files open"],
  ENXIO: ["UNSUPPORTED", "is a socket or a device, which no NAR can hold"],
};

/** `ENOENT` and its like, when `error` is a system error. */
export function systemCodeOf(error: unknown): string | undefined {
  const code: unknown = error instanceof Error && "code" in error ? error.code : undefined;
  return typeof code === "string" ? code : undefined;
}

/** Turns a system error met while reading a store path into an error of ours. */
export function toFileError(error: unknown, path: string): CacheError {
  if (error instanceof CacheError) return error;
  const systemCode = systemCodeOf(error) ?? "of an unknown error";
  const [code, words] =
    CODES[systemCode] ?? (["INTERNAL", `cannot be read: ${systemCode}`] as const);
  return new CacheError(code, `${path} ${words}`, { cause: error });
}
