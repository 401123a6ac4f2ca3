/** Chance that can be had again: the same seed gives the same numbers on every machine. */
export interface Random {
  /** From 0 (inclusive) to 1 (exclusive). */
  next(): number;
  /** A whole number from 0 to `limit`, exclusive. */
  below(limit: number): number;
  chance(probability: number): boolean;
  pick<T>(values: readonly T[]): T;
  bytes(length: number): Buffer;
  /** A stream of its own, so that drawing more here changes nothing there. */
  fork(name: string): Random;
}

/** xoshiro128**, seeded by a hash of the text. */
export function createRandom(seed: number | string): Random {
  const state = seedState(String(seed));
  const nextUint32 = (): number => {
    const [a = 0, b = 0, c = 0, d = 0] = state;
    const result = Math.imul(rotate(Math.imul(b, 5), 7), 9) >>> 0;
    state[2] = c ^ a;
    state[3] = d ^ b;
    state[1] = b ^ (c ^ a);
    state[0] = a ^ (d ^ b);
    state[2] ^= b << 9;
    state[3] = rotate(state[3], 11);
    return result;
  };
  const random: Random = {
    next: () => nextUint32() / 2 ** 32,
    below: (limit) => Math.floor(random.next() * limit),
    chance: (probability) => random.next() < probability,
    pick(values) {
      const value = values[random.below(values.length)];
      if (value === undefined) throw new Error("There is nothing to pick from");
      return value;
    },
    bytes(length) {
      const bytes = Buffer.alloc(Math.ceil(length / 4) * 4);
      for (let at = 0; at < length; at += 4) bytes.writeUInt32LE(nextUint32(), at);
      return bytes.subarray(0, length);
    },
    fork: (name) => createRandom(`${seed}/${name}`),
  };
  return random;
}

function rotate(value: number, by: number): number {
  return (value << by) | (value >>> (32 - by));
}

/** FNV-1a over the text with four starting points, mixed. */
function seedState(text: string): number[] {
  return [0x811c9dc5, 0x9e3779b9, 0x85ebca6b, 0xc2b2ae35].map((start) => {
    let hash = start;
    for (const char of Buffer.from(text)) hash = Math.imul(hash ^ char, 0x01000193);
    hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
    return (hash ^ (hash >>> 13)) >>> 0 || 1;
  });
}
