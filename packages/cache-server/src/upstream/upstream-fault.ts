/**
 * What can be wrong with an upstream or with what it says. Each is a miss for whoever asked; the word is the label of a
 * counter, and its meaning never changes.
 */
export const UPSTREAM_FAULTS = [
  /** No answer within the deadline. */
  "timeout",
  /** No connection, or one that broke before an answer. */
  "unreachable",
  /** TLS: the certificate is not of this time, by the server's clock or by ours. */
  "clock",
  /** TLS: the certificate is not trusted otherwise. */
  "certificate",
  /** 429 or 503: it wants to be left alone. */
  "rate-limited",
  /** 401 or 407, or 403 in spite of a credential. */
  "refused",
  /** Any other status. */
  "status",
  /** Too many redirects, or one without an address. */
  "redirects",
  /** A redirect or an address in a narinfo that leads into a network that the upstream itself is not in. */
  "private-address",
  /** A content encoding that was not asked for and cannot be undone, or that grows beyond the bound. */
  "encoding",
  /** More bytes than such an answer may have. */
  "too-large",
  /** 200, but no narinfo, such as a page for people. */
  "not-narinfo",
  /** A narinfo of another path. */
  "wrong-path",
  /** Paths of another store directory. */
  "store-dir",
  /** No signature at all. */
  "unsigned",
  /** Signatures by other keys only: the upstream's key has changed, or is not the one that was given. */
  "other-key",
  /** A signature in the name of a known key that is not by that key. */
  "wrong-signature",
  /** A compression that we do not decode. */
  "compression",
  /** A narinfo whose NAR is not there. */
  "nar-missing",
  /** A length that is not the one that was said. */
  "length",
  /** The body ended before its end, and could not be resumed. */
  "cut",
  /** The body came to a stop. */
  "stalled",
  /** The file is not the one that the narinfo names. */
  "file-hash",
  /** The NAR is not the one that was signed. */
  "nar-hash",
  /** It could not be kept here: our own disk is full, or the index out of reach. */
  "storage",
] as const;

/** One of {@link UPSTREAM_FAULTS}. */
export type UpstreamFaultReason = (typeof UPSTREAM_FAULTS)[number];

/** An upstream gave nothing that can be believed. */
export class UpstreamFault extends Error {
  override readonly name = "UpstreamFault";
  readonly reason: UpstreamFaultReason;

  constructor(reason: UpstreamFaultReason, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.reason = reason;
  }
}

/** Faults of the way, not of what was said: enough of them, and the upstream is left alone. */
const OF_THE_WAY: ReadonlySet<UpstreamFaultReason> = new Set<UpstreamFaultReason>([
  "timeout",
  "unreachable",
  "clock",
  "certificate",
  "rate-limited",
  "refused",
  "status",
  "redirects",
  "private-address",
  "encoding",
  "too-large",
  "not-narinfo",
  "cut",
  "stalled",
]);

/** Whether the same fault is to be expected of the upstream's next answer. */
export function isFaultOfTheWay(reason: UpstreamFaultReason): boolean {
  return OF_THE_WAY.has(reason);
}

/** Faults after which the same question may have another answer in a minute. */
const PASSING: ReadonlySet<UpstreamFaultReason> = new Set<UpstreamFaultReason>([
  "timeout",
  "unreachable",
  "clock",
  "certificate",
  "rate-limited",
  "refused",
  "status",
  "cut",
  "stalled",
  "storage",
]);

/** Whether a NAR that could not be had today is worth being named again soon. */
export function isPassingFault(reason: UpstreamFaultReason): boolean {
  return PASSING.has(reason);
}
