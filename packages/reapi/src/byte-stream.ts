import { WireReader } from "./wire-reader.ts";
import { WireWriter, varintSize } from "./wire-writer.ts";

const READ_REQUEST = { resourceName: 0x0a, readOffset: 0x10, readLimit: 0x18 };
const READ_REQUEST_KNOWN = (1 << 1) | (1 << 2) | (1 << 3);
const READ_RESPONSE_DATA = 0x52;
const WRITE_REQUEST = { resourceName: 0x0a, writeOffset: 0x10, finishWrite: 0x18, data: 0x52 };
const WRITE_REQUEST_KNOWN = (1 << 1) | (1 << 2) | (1 << 3) | (1 << 10);
const STATUS_REQUEST = { resourceName: 0x0a };
const STATUS_REQUEST_KNOWN = 1 << 1;
const COMMITTED_SIZE = 0x08;
const COMPLETE = 0x10;

/** A `google.bytestream.ReadRequest`. */
export interface ReadRequestFields {
  readonly resourceName: string;
  /** May be negative: the caller's mistake, for the service to answer. */
  readonly readOffset: number;
  /** 0 is no limit; may be negative too. */
  readonly readLimit: number;
}

/** A `google.bytestream.WriteRequest`. */
export interface WriteRequestFields {
  /** Empty in all but the first message, as a rule. */
  readonly resourceName: string;
  readonly writeOffset: number;
  readonly finishWrite: boolean;
  /** A view of the message. */
  readonly data: Uint8Array;
}

const NO_DATA: Uint8Array = new Uint8Array();

/**
 * Reads a `ReadRequest`.
 *
 * @throws {CacheError} `INVALID` when it is malformed.
 */
export function parseReadRequest(message: Uint8Array): ReadRequestFields {
  const reader = new WireReader(message, "ReadRequest");
  let resourceName = "";
  let readOffset = 0;
  let readLimit = 0;
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === READ_REQUEST.resourceName) resourceName = reader.text();
    else if (tag === READ_REQUEST.readOffset) readOffset = reader.int64();
    else if (tag === READ_REQUEST.readLimit) readLimit = reader.int64();
    else reader.skip(tag, READ_REQUEST_KNOWN);
  }
  return { resourceName, readOffset, readLimit };
}

/**
 * What stands before the `sizeBytes` bytes of data in a `ReadResponse`: the two together are the
 * message, so that the data need not be copied.
 */
export function encodeReadResponsePrefix(sizeBytes: number): Buffer {
  const writer = new WireWriter(1 + varintSize(sizeBytes));
  writer.tag(READ_RESPONSE_DATA);
  writer.varint(sizeBytes);
  return writer.bytes;
}

/**
 * Reads a `WriteRequest`.
 *
 * @throws {CacheError} `INVALID` when it is malformed.
 */
export function parseWriteRequest(message: Uint8Array): WriteRequestFields {
  const reader = new WireReader(message, "WriteRequest");
  let resourceName = "";
  let writeOffset = 0;
  let finishWrite = false;
  let data = NO_DATA;
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === WRITE_REQUEST.data) data = reader.view();
    else if (tag === WRITE_REQUEST.writeOffset) writeOffset = reader.int64();
    else if (tag === WRITE_REQUEST.finishWrite) finishWrite = reader.bool();
    else if (tag === WRITE_REQUEST.resourceName) resourceName = reader.text();
    else reader.skip(tag, WRITE_REQUEST_KNOWN);
  }
  return { resourceName, writeOffset, finishWrite, data };
}

/** Writes a `WriteResponse`; a size of -1 says "whatever the blob's is", for compressed blobs. */
export function encodeWriteResponse(committedSize: number): Buffer {
  const writer = new WireWriter(committedSizeBytes(committedSize));
  writeCommittedSize(writer, committedSize);
  return writer.bytes;
}

/**
 * Reads a `QueryWriteStatusRequest`.
 *
 * @throws {CacheError} `INVALID` when it is malformed.
 */
export function parseQueryWriteStatusRequest(message: Uint8Array): { resourceName: string } {
  const reader = new WireReader(message, "QueryWriteStatusRequest");
  let resourceName = "";
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === STATUS_REQUEST.resourceName) resourceName = reader.text();
    else reader.skip(tag, STATUS_REQUEST_KNOWN);
  }
  return { resourceName };
}

/** Writes a `QueryWriteStatusResponse`. */
export function encodeQueryWriteStatusResponse(committedSize: number, complete: boolean): Buffer {
  const writer = new WireWriter(committedSizeBytes(committedSize) + (complete ? 2 : 0));
  writeCommittedSize(writer, committedSize);
  if (complete) {
    writer.tag(COMPLETE);
    writer.varint(1);
  }
  return writer.bytes;
}

const MINUS_ONE = Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);

function committedSizeBytes(committedSize: number): number {
  if (committedSize === 0) return 0;
  return 1 + (committedSize === -1 ? MINUS_ONE.length : varintSize(committedSize));
}

function writeCommittedSize(writer: WireWriter, committedSize: number): void {
  if (committedSize === 0) return;
  writer.tag(COMMITTED_SIZE);
  if (committedSize === -1) writer.copy(MINUS_ONE);
  else writer.varint(committedSize);
}
