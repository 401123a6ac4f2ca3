import type { Random } from "../random.ts";

/** Values at which arithmetic goes wrong. */
const NUMBERS = [0, 1, 7, 8, 127, 128, 255, 256, 4095, 4096, 32767, 65535, 65536, 2 ** 31 - 1];

export interface MutatorOptions {
  readonly dictionary: readonly Buffer[];
  readonly corpus: readonly Buffer[];
  readonly maxBytes: number;
}

/** Changes an input in one to eight places: bits, bytes, numbers, words, pieces of itself and of others. */
export function mutate(input: Buffer, random: Random, options: MutatorOptions): Buffer {
  let bytes: Buffer = Buffer.from(input);
  // Mostly few changes: what is deeply broken is refused at the door.
  const changes = 1 + Math.floor(8 * random.next() ** 3);
  for (let change = 0; change < changes; change += 1) {
    bytes = random.pick(CHANGES)(bytes, random, options);
  }
  return bytes.subarray(0, options.maxBytes);
}

type Change = (bytes: Buffer, random: Random, options: MutatorOptions) => Buffer;

const CHANGES: readonly Change[] = [
  (bytes, random) => {
    if (bytes.length === 0) return bytes;
    const at = random.below(bytes.length);
    bytes.writeUInt8(bytes.readUInt8(at) ^ (1 << random.below(8)), at);
    return bytes;
  },
  (bytes, random) => {
    if (bytes.length === 0) return bytes;
    bytes.writeUInt8(random.below(256), random.below(bytes.length));
    return bytes;
  },
  (bytes, random) => {
    const [start, end] = pickRange(bytes, random);
    return splice(bytes, start, end, Buffer.alloc(0));
  },
  (bytes, random) => {
    const [start, end] = pickRange(bytes, random);
    return splice(bytes, random.below(bytes.length + 1), undefined, bytes.subarray(start, end));
  },
  (bytes, random) =>
    splice(bytes, random.below(bytes.length + 1), undefined, random.bytes(1 + random.below(8))),
  (bytes, random) => bytes.subarray(0, random.below(bytes.length + 1)),
  (bytes, random) => {
    if (bytes.length < 8) return bytes;
    const at = random.below(bytes.length - 7);
    const number = random.pick(NUMBERS) + random.below(3) - 1;
    if (random.chance(0.5)) bytes.writeUInt32LE(number >>> 0, at);
    else bytes.writeBigUInt64LE(BigInt.asUintN(64, BigInt(number)), at);
    return bytes;
  },
  (bytes, random) => {
    const number = Buffer.from(String(random.pick(NUMBERS) * (random.chance(0.1) ? -1 : 1)));
    const digits = [...bytes.toString("latin1").matchAll(/\d+/g)];
    const match = digits.length === 0 ? undefined : random.pick(digits);
    if (match === undefined)
      return splice(bytes, random.below(bytes.length + 1), undefined, number);
    return splice(bytes, match.index, match.index + match[0].length, number);
  },
  insertWord,
  insertWord,
  (bytes, random, { corpus }) => {
    if (corpus.length === 0) return bytes;
    const other = random.pick(corpus);
    const [start, end] = pickRange(other, random);
    const at = random.below(bytes.length + 1);
    return splice(
      bytes,
      at,
      random.chance(0.5) ? at : at + (end - start),
      other.subarray(start, end),
    );
  },
  (bytes, random) => {
    const lines = bytes.toString("latin1").split("\n");
    if (lines.length < 2) return bytes;
    const line = random.below(lines.length);
    const taken = lines.splice(line, 1);
    const back = random.below(3);
    for (let times = 0; times < back; times += 1) {
      lines.splice(random.below(lines.length + 1), 0, ...taken);
    }
    return Buffer.from(lines.join("\n"), "latin1");
  },
];

function insertWord(bytes: Buffer, random: Random, { dictionary }: MutatorOptions): Buffer {
  if (dictionary.length === 0) return bytes;
  const word = random.pick(dictionary);
  const at = random.below(bytes.length + 1);
  return splice(bytes, at, random.chance(0.5) ? at : at + word.length, word);
}

function pickRange(bytes: Buffer, random: Random): readonly [start: number, end: number] {
  const start = random.below(bytes.length + 1);
  const longest = bytes.length - start;
  return [start, start + Math.floor(longest * random.next() ** 2)];
}

function splice(bytes: Buffer, start: number, end: number | undefined, piece: Buffer): Buffer {
  return Buffer.concat([bytes.subarray(0, start), piece, bytes.subarray(end ?? start)]);
}
