import type { HeaderField } from "./header-field.ts";

/** The fields of one decoded block, in their order. Immutable, and shared by blocks that repeat byte for byte. */
export class HeaderList {
  readonly fields: readonly HeaderField[];
  /** Size as RFC 9113 counts it, of all fields, also of those that were dropped. */
  readonly sizeBytes: number;
  /** The list was larger than the limit: {@link fields} is empty, the tables are right all the same. */
  readonly isTooLarge: boolean;
  /** What a layer above computed from the fields, kept with them. */
  derived: unknown;

  constructor(fields: readonly HeaderField[], sizeBytes: number, isTooLarge: boolean) {
    this.fields = fields;
    this.sizeBytes = sizeBytes;
    this.isTooLarge = isTooLarge;
    this.derived = undefined;
  }

  /** The value of a field by its lower-case name; values of a repeated field are joined with a comma. */
  get(name: string): string | undefined {
    let found: string | undefined;
    for (const field of this.fields) {
      if (field.name === name) {
        found = found === undefined ? field.value : `${found},${field.value}`;
      }
    }
    return found;
  }

  /** The bytes of a binary field (its name ends in `-bin`), the first when it is repeated. */
  getBinary(name: string): Uint8Array | undefined {
    const value = this.get(name);
    if (value === undefined) return undefined;
    const comma = value.indexOf(",");
    return Buffer.from(comma < 0 ? value : value.slice(0, comma), "base64");
  }

  /** Name and value of every field that is no pseudo-header. */
  *entries(): Generator<readonly [name: string, value: string]> {
    for (const { name, value } of this.fields) {
      if (!name.startsWith(":")) yield [name, value];
    }
  }
}
