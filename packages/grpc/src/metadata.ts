import type { FieldList } from "./hpack/encoder.ts";

/**
 * Custom metadata of a call: lower-case names; text values of visible ASCII and blanks; bytes for names that end in
 * `-bin`.
 */
export type Metadata = Iterable<readonly [name: string, value: string | Uint8Array]>;

const NAME = /^[0-9a-z_.-]+$/;
const TEXT = /^[ -~]*$/;

/**
 * Metadata as header fields.
 *
 * @throws {TypeError} for a name or value that gRPC does not allow, a programming mistake
 */
export function formatMetadata(metadata: Metadata | undefined): FieldList {
  if (metadata === undefined) return [];
  const fields: Array<readonly [string, string]> = [];
  for (const [name, value] of metadata) {
    if (!NAME.test(name) || name.startsWith("grpc-")) {
      throw new TypeError(`${JSON.stringify(name)} is no name of custom metadata`);
    }
    if (typeof value === "string") {
      if (name.endsWith("-bin")) throw new TypeError(`metadata ${name} takes bytes`);
      if (!TEXT.test(value)) throw new TypeError(`metadata ${name} is not visible ASCII`);
      fields.push([name, value.trim()]);
    } else {
      if (!name.endsWith("-bin")) throw new TypeError(`metadata ${name} takes text`);
      fields.push([name, Buffer.from(value).toString("base64").replace(/=+$/, "")]);
    }
  }
  return fields;
}
