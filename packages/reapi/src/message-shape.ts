import { type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";

import { BYTES, FIXED32, FIXED64, VARINT, type WireReader } from "./wire-reader.ts";

/** What a value of a field must look like. */
type ValueShape = "scalar" | "text" | MessageShape;

/** What the bytes of a message must look like for others to be able to read it. */
export interface MessageShape {
  readonly values: ReadonlyMap<number, ValueShape>;
  readonly numbers: ReadonlySet<number>;
}

/** Derives the shape of a message that does not contain itself. */
export function shapeOf(message: DescMessage): MessageShape {
  const values = new Map<number, ValueShape>();
  for (const field of message.fields) {
    const shape = valueShapeOf(field);
    const wireType = shape === "scalar" ? scalarWireType(field) : BYTES;
    values.set((field.number << 3) | wireType, shape);
    if (field.fieldKind === "list" && wireType !== BYTES) {
      values.set((field.number << 3) | BYTES, "scalar");
    }
  }
  return { values, numbers: new Set(message.fields.map((field) => field.number)) };
}

/** Checks a nested message, without making anything of it. */
export function checkShape(reader: WireReader, shape: MessageShape): void {
  const outer = reader.enter();
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    const value = shape.values.get(tag);
    if (value === undefined && shape.numbers.has(tag >>> 3)) {
      throw reader.invalid(`field ${tag >>> 3} is encoded with wire type ${tag & 7}`);
    }
    if (value === undefined || value === "scalar") reader.skipValue(tag);
    else if (value === "text") {
      const size = reader.length();
      reader.requireUtf8(reader.offset, reader.offset + size);
      reader.offset += size;
    } else checkShape(reader, value);
  }
  reader.leave(outer);
}

function valueShapeOf(field: DescField): ValueShape {
  if (field.message !== undefined) return shapeOf(field.message);
  return field.scalar === ScalarType.STRING ? "text" : "scalar";
}

function scalarWireType(field: DescField): number {
  switch (field.scalar) {
    case ScalarType.BYTES:
    case ScalarType.STRING:
      return BYTES;
    case ScalarType.DOUBLE:
    case ScalarType.FIXED64:
    case ScalarType.SFIXED64:
      return FIXED64;
    case ScalarType.FLOAT:
    case ScalarType.FIXED32:
    case ScalarType.SFIXED32:
      return FIXED32;
    default:
      return VARINT;
  }
}
