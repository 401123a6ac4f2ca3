import { type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";

/** A source of numbers from 0 (included) to 1 (excluded). */
export type Random = () => number;

/** A small repeatable source of numbers. */
export function randomFrom(seed: number): Random {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * The same message in another valid encoding: fields in another order, numbers longer than they
 * need be, single messages in two parts, repeated numbers packed or not, unknown fields among them.
 */
export function scramble(message: DescMessage, bytes: Uint8Array, random: Random): Buffer {
  const byField = new Map<number, Buffer[]>();
  for (const { field, wireType, body } of splitFields(bytes)) {
    const desc = message.fields.find((each) => each.number === field);
    const list = byField.get(field) ?? [];
    byField.set(field, list);
    list.push(...rewrite(desc, field, wireType, body, random));
  }
  const queues = [...byField.values()];
  const pieces: Buffer[] = [];
  // What a field holds several times must keep its order; between fields there is none.
  while (queues.some((queue) => queue.length > 0)) {
    const queue = queues[Math.floor(random() * queues.length)]!;
    const piece = queue.shift();
    if (piece !== undefined) pieces.push(piece);
    if (random() < 0.15) pieces.push(unknownField(random));
  }
  if (random() < 0.15) pieces.push(unknownField(random));
  return Buffer.concat(pieces);
}

function rewrite(
  desc: DescField | undefined,
  field: number,
  wireType: number,
  body: Buffer,
  random: Random,
): Buffer[] {
  const tag = varint(field * 8 + wireType, random);
  if (wireType !== 2) return [Buffer.concat([tag, wireType === 0 ? lengthen(body, random) : body])];
  if (desc?.message !== undefined && desc.fieldKind !== "map") {
    const inner = scramble(desc.message, body, random);
    if (desc.fieldKind !== "list" && random() < 0.3) {
      const parts = splitFields(inner);
      const middle = Math.floor(random() * (parts.length + 1));
      const cut = parts.slice(0, middle).reduce((sum, part) => sum + part.sizeBytes, 0);
      return [inner.subarray(0, cut), inner.subarray(cut)].map((part) =>
        Buffer.concat([tag, varint(part.length, random), part]),
      );
    }
    return [Buffer.concat([tag, varint(inner.length, random), inner])];
  }
  const isPacked = desc?.fieldKind === "list";
  if (isPacked && desc.scalar !== ScalarType.STRING && desc.scalar !== ScalarType.BYTES) {
    if (random() < 0.5) {
      return [...body].map((value) => Buffer.concat([varint(field * 8, random), Buffer.of(value)]));
    }
  }
  return [Buffer.concat([tag, varint(body.length, random), body])];
}

function unknownField(random: Random): Buffer {
  const field = 100 + Math.floor(random() * 500_000);
  const wireType = [0, 1, 2, 5][Math.floor(random() * 4)]!;
  const tag = varint(field * 8 + wireType, random);
  if (wireType === 0) return Buffer.concat([tag, varint(Math.floor(random() * 2 ** 50), random)]);
  if (wireType === 1) return Buffer.concat([tag, Buffer.alloc(8, 7)]);
  if (wireType === 5) return Buffer.concat([tag, Buffer.alloc(4, 9)]);
  const size = Math.floor(random() * 20);
  return Buffer.concat([tag, varint(size, random), Buffer.alloc(size, 10)]);
}

interface RawField {
  readonly field: number;
  readonly wireType: number;
  /** What follows the tag, without the length where there is one. */
  readonly body: Buffer;
  /** Everything, the tag included. */
  readonly sizeBytes: number;
}

function splitFields(bytes: Uint8Array): RawField[] {
  const buffer = Buffer.from(bytes);
  const fields: RawField[] = [];
  let offset = 0;
  const readVarint = (): number => {
    for (let value = 0, scale = 1; ; scale *= 128) {
      const byte = buffer.readUInt8(offset++);
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
  };
  while (offset < buffer.length) {
    const start = offset;
    const tag = readVarint();
    const wireType = tag % 8;
    const size = wireType === 2 ? readVarint() : 0;
    const from = offset;
    if (wireType === 0) readVarint();
    else offset += wireType === 1 ? 8 : wireType === 5 ? 4 : size;
    const body = buffer.subarray(from, offset);
    fields.push({ field: Math.floor(tag / 8), wireType, body, sizeBytes: offset - start });
  }
  return fields;
}

function varint(value: number, random: Random): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) | 0x80);
  bytes.push(rest);
  // A tag must fit in five bytes, whoever reads it.
  return bytes.length > 4 ? Buffer.from(bytes) : lengthen(Buffer.from(bytes), random);
}

/** The same number with a byte more that says nothing. */
function lengthen(bytes: Buffer, random: Random): Buffer {
  if (bytes.length >= 9 || random() < 0.9) return bytes;
  const longer = Buffer.concat([bytes, Buffer.of(0)]);
  longer[bytes.length - 1]! |= 0x80;
  return longer;
}
