const UNIT_MS: Record<string, number> = {
  H: 3_600_000,
  M: 60_000,
  S: 1000,
  m: 1,
  u: 1e-3,
  n: 1e-6,
};

/** Reads a `grpc-timeout` as milliseconds: one to eight digits and a unit; undefined for anything else. */
export function parseTimeoutMs(text: string): number | undefined {
  const length = text.length - 1;
  const unit = UNIT_MS[text.charAt(length)];
  if (unit === undefined || length < 1 || length > 8) return undefined;
  let value = 0;
  for (let index = 0; index < length; index += 1) {
    const digit = text.charCodeAt(index) - 48;
    if (digit < 0 || digit > 9) return undefined;
    value = value * 10 + digit;
  }
  return value * unit;
}

/** Formats a `grpc-timeout` in the finest unit that holds it, rounded up; a time in the past is the shortest there is. */
export function formatTimeout(timeoutMs: number): string {
  for (const unit of ["u", "m", "S", "M"]) {
    const value = Math.max(1, Math.ceil(timeoutMs / (UNIT_MS[unit] as number)));
    if (value < 1e8) return `${value}${unit}`;
  }
  return `${Math.min(99_999_999, Math.ceil(timeoutMs / 3_600_000))}H`;
}
