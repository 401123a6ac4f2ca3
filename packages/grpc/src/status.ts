import { ERROR } from "./http2/protocol.ts";

/** The status codes of gRPC. */
export const GRPC_STATUS = {
  OK: 0,
  CANCELLED: 1,
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
  UNAUTHENTICATED: 16,
} as const;

const MAX_MESSAGE_CHARACTERS = 1024;

/** Formats a `grpc-message`: UTF-8, everything but visible ASCII and the percent sign itself percent-encoded. */
export function formatStatusMessage(message: string): string {
  const text = message.slice(0, MAX_MESSAGE_CHARACTERS).toWellFormed();
  if (/^[ -$&-~]*$/.test(text) && text === text.trim()) return text;
  let result = "";
  for (const byte of Buffer.from(text, "utf8")) {
    result +=
      byte > 0x20 && byte <= 0x7e && byte !== 0x25
        ? String.fromCharCode(byte)
        : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }
  return result;
}

/** Reads a `grpc-message`; what is no valid encoding stays as it is, so that nothing is lost. */
export function parseStatusMessage(text: string): string {
  if (!text.includes("%")) return text;
  const bytes: number[] = [];
  for (let index = 0; index < text.length; index += 1) {
    const code = text.slice(index + 1, index + 3);
    if (text[index] === "%" && /^[0-9a-fA-F]{2}$/.test(code)) {
      bytes.push(Number.parseInt(code, 16));
      index += 2;
    } else {
      bytes.push(text.charCodeAt(index) & 0xff);
    }
  }
  return Buffer.from(bytes).toString("utf8");
}

/** What the code of a RST_STREAM means to a client, by gRPC's own table. */
export function statusOfReset(code: number): number {
  switch (code) {
    case ERROR.REFUSED_STREAM:
      return GRPC_STATUS.UNAVAILABLE;
    case ERROR.CANCEL:
      return GRPC_STATUS.CANCELLED;
    case ERROR.ENHANCE_YOUR_CALM:
      return GRPC_STATUS.RESOURCE_EXHAUSTED;
    default:
      return GRPC_STATUS.INTERNAL;
  }
}

/** What an HTTP status means to a client that got no grpc-status, by gRPC's own table. */
export function statusOfHttp(status: number): number {
  switch (status) {
    case 400:
      return GRPC_STATUS.INTERNAL;
    case 401:
      return GRPC_STATUS.UNAUTHENTICATED;
    case 403:
      return GRPC_STATUS.PERMISSION_DENIED;
    case 404:
      return GRPC_STATUS.UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
      return GRPC_STATUS.UNAVAILABLE;
    default:
      return GRPC_STATUS.UNKNOWN;
  }
}
