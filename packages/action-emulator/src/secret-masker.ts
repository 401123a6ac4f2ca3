/** What stands in the place of a secret. */
const MASK = "***";

/** Replaces secrets in what a job prints. */
export interface SecretMasker {
  /** Every value that was registered, in that order. */
  readonly values: readonly string[];
  /** Registers a secret and each of its lines; an empty one is ignored. */
  add(value: string): void;
  mask(text: string): string;
}

/**
 * Creates a masker that knows no secret yet. Like the runner's it also replaces a secret's usual encodings:
 * base64 (at each of the three offsets), JSON, and percent-encoding.
 *
 * @see `SecretMasker` and `ValueEncoders` of actions/runner.
 */
export function createSecretMasker(): SecretMasker {
  const values: string[] = [];
  let forms: readonly string[] = [];
  return {
    values,
    add(value) {
      const parts = [value, ...value.split(/\r\n|\n|\r/)].filter((part) => part.trim() !== "");
      const fresh = parts.filter((part) => !values.includes(part));
      if (fresh.length === 0) return;
      values.push(...new Set(fresh));
      // The longest first: a secret within another would cut it into pieces that are no longer found.
      forms = [...new Set(values.flatMap(secretForms))].sort((a, b) => b.length - a.length);
    },
    mask: (text) => forms.reduce((masked, form) => masked.replaceAll(form, MASK), text),
  };
}

/** A secret as it is, and as it looks when it was encoded on the way. */
export function secretForms(value: string): string[] {
  const forms = [value, JSON.stringify(value).slice(1, -1), encodeURIComponent(value)];
  // Shorter pieces would match by chance.
  if (value.length >= 8) forms.push(...base64Forms(value));
  return [...new Set(forms)];
}

/** What base64 makes of the value wherever it begins within the encoded text, without what depends on its neighbours. */
function base64Forms(value: string): string[] {
  return [0, 1, 2].map((shift) => {
    const bytes = Buffer.concat([Buffer.alloc(shift), Buffer.from(value)]);
    const whole = bytes.toString("base64").replace(/=+$/, "");
    const end = bytes.length % 3 === 0 ? whole.length : whole.length - 1;
    return whole.slice(shift === 0 ? 0 : shift + 1, end);
  });
}
