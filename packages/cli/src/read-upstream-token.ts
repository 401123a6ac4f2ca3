import type { CliContext } from "./cli-context.ts";
import { readTokenFile } from "./read-secret.ts";

/**
 * The value of an `Authorization` header from a file, `-` is standard input: a token, or user and password as
 * `user:password`.
 *
 * @throws {CacheError} `NOT_FOUND`, or `INVALID` without quoting what there is.
 */
export async function readUpstreamToken(file: string, context: CliContext): Promise<string> {
  const token = await readTokenFile(file, context);
  // No token has a colon in it.
  return token.includes(":") ? `Basic ${Buffer.from(token).toString("base64")}` : `Bearer ${token}`;
}
