/**
 * The fields that a schema allows at a place of a document; none where it allows no named fields.
 *
 * @param path From the document to the part that holds the fields: names, and positions in lists.
 */
export function fieldsAt(schema: unknown, path: readonly (string | number)[]): readonly string[] {
  let part = unwrap(schema);
  for (const key of path) {
    const { entries, item, value } = part;
    part = unwrap(entries === undefined ? (item ?? value) : toFields(entries)[key]);
  }
  return Object.keys(toFields(part.entries));
}

/** Below what makes it optional or checks more of it. */
function unwrap(schema: unknown): Readonly<Record<string, unknown>> {
  let fields = toFields(schema);
  while (fields["wrapped"] !== undefined) fields = toFields(fields["wrapped"]);
  return fields;
}

function toFields(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null ? { ...value } : {};
}
