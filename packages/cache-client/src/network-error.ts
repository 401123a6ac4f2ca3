import { CacheError } from "@glorious/core";

/** System and undici codes to our codes, in words; what is not here is an `UNAVAILABLE` network. */
const REASONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: "nothing listens there",
  ECONNRESET: "the connection was reset",
  EPIPE: "the connection was closed while sending",
  ENOTFOUND: "the host name is unknown",
  EAI_AGAIN: "the host name could not be looked up",
  EHOSTUNREACH: "no route to the host",
  ENETUNREACH: "the network is unreachable",
  UND_ERR_SOCKET: "the connection was closed",
};
const TIMEOUTS: ReadonlySet<string> = new Set([
  "ETIMEDOUT",
  "UND_ERR_CONNECT_TIMEOUT",
  "UND_ERR_HEADERS_TIMEOUT",
  "UND_ERR_BODY_TIMEOUT",
]);
const CERTIFICATE =
  /^(CERT_|ERR_TLS_|ERR_SSL_|SELF_SIGNED_|DEPTH_ZERO_|UNABLE_TO_(GET|VERIFY)_|HOSTNAME_MISMATCH)/;

/**
 * Turns whatever the HTTP client threw into an error of ours.
 *
 * @param request - The request line, for the message.
 */
export function toNetworkError(error: unknown, request: string): CacheError {
  if (error instanceof CacheError) return error;
  const code = findCode(error);
  if (code !== undefined && CERTIFICATE.test(code)) {
    return new CacheError(
      "CONFIG",
      `${request} failed: the TLS connection is not trusted (${code})`,
      {
        cause: error,
        hint: "Name the authority that signed the server's certificate, for example in NODE_EXTRA_CA_CERTS.",
      },
    );
  }
  if (code !== undefined && TIMEOUTS.has(code)) {
    return new CacheError("TIMEOUT", `${request} failed: no answer in time`, { cause: error });
  }
  const reason =
    code === undefined
      ? error instanceof Error
        ? error.message
        : String(error)
      : (REASONS[code] ?? code);
  return new CacheError("UNAVAILABLE", `${request} failed: ${reason}`, {
    cause: error,
    hint: "Check the server's address and that it runs.",
  });
}

function findCode(error: unknown): string | undefined {
  for (let current: unknown = error, depth = 0; current instanceof Error && depth < 5; depth += 1) {
    // A host with several addresses fails with one error for each.
    if (current instanceof AggregateError && current.errors.length > 0) {
      current = current.errors[0];
      continue;
    }
    // undici wraps a socket's error; the inner code says more.
    const inner: unknown = current.cause;
    if ("code" in current && typeof current.code === "string") {
      return current.code === "UND_ERR_SOCKET" ? (findCode(inner) ?? current.code) : current.code;
    }
    current = inner;
  }
  return undefined;
}
