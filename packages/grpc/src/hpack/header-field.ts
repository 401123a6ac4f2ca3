/** What a field is to HTTP/2 and gRPC, so that nobody compares names twice. */
export const FIELD = {
  OTHER: 0,
  METHOD: 1,
  SCHEME: 2,
  AUTHORITY: 3,
  PATH: 4,
  STATUS: 5,
  OTHER_PSEUDO: 6,
  CONNECTION_SPECIFIC: 7,
  TE: 8,
  HOST: 9,
  CONTENT_LENGTH: 10,
  CONTENT_TYPE: 11,
  GRPC_TIMEOUT: 12,
  GRPC_ENCODING: 13,
} as const;

const KIND_OF_NAME = new Map<string, number>([
  [":method", FIELD.METHOD],
  [":scheme", FIELD.SCHEME],
  [":authority", FIELD.AUTHORITY],
  [":path", FIELD.PATH],
  [":status", FIELD.STATUS],
  ["connection", FIELD.CONNECTION_SPECIFIC],
  ["proxy-connection", FIELD.CONNECTION_SPECIFIC],
  ["keep-alive", FIELD.CONNECTION_SPECIFIC],
  ["transfer-encoding", FIELD.CONNECTION_SPECIFIC],
  ["upgrade", FIELD.CONNECTION_SPECIFIC],
  ["te", FIELD.TE],
  ["host", FIELD.HOST],
  ["content-length", FIELD.CONTENT_LENGTH],
  ["content-type", FIELD.CONTENT_TYPE],
  ["grpc-timeout", FIELD.GRPC_TIMEOUT],
  ["grpc-encoding", FIELD.GRPC_ENCODING],
]);

/** RFC 9110 tokens without upper-case letters. */
const NAME = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;
/** One header field as it lies in a table: immutable, checked once, shared by every block that names it. */
export interface HeaderField {
  readonly name: string;
  /** Its bytes as characters 0 to 255. */
  readonly value: string;
  /** One of {@link FIELD}. */
  readonly kind: number;
  /** What it counts for in tables and limits: its bytes and 32 (RFC 7541, section 4.1). */
  readonly sizeBytes: number;
  readonly isNameValid: boolean;
  /** Whether RFC 9113, section 8.2.1 allows name and value. */
  readonly isValid: boolean;
}

export function createHeaderField(name: string, value: string): HeaderField {
  const isPseudo = name.charCodeAt(0) === 0x3a;
  const kind = KIND_OF_NAME.get(name) ?? (isPseudo ? FIELD.OTHER_PSEUDO : FIELD.OTHER);
  return createField(name, kind, isPseudo || NAME.test(name), value);
}

/** The field with another value: what is known of the name need not be found out again. */
export function withValue(field: HeaderField, value: string): HeaderField {
  return createField(field.name, field.kind, field.isNameValid, value);
}

function createField(name: string, kind: number, isNameValid: boolean, value: string): HeaderField {
  return {
    name,
    value,
    kind,
    sizeBytes: name.length + value.length + 32,
    isNameValid,
    isValid: isNameValid && isValueValid(value),
  };
}

/** No NUL, CR or LF anywhere, no blank at either end (RFC 9113, section 8.2.1). */
function isValueValid(value: string): boolean {
  if (isBlank(value.charCodeAt(0)) || isBlank(value.charCodeAt(value.length - 1))) return false;
  // oxlint-disable-next-line no-control-regex -- they are what is looked for
  return !/[\0\r\n]/.test(value);
}

function isBlank(code: number): boolean {
  return code === 0x20 || code === 0x09;
}
