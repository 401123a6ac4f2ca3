const MAX_CHARS = 300;

/**
 * A server's own words for its refusal: the `message` of a JSON body, or plain text; `undefined` for a
 * web page and for nothing.
 */
export function describeRefusal(body: string): string | undefined {
  const text = readMessage(body) ?? body;
  // oxlint-disable-next-line no-control-regex -- a terminal would obey them.
  const line = text.replaceAll(/[\u0000-\u001F\u007F-\u009F]+/g, " ").trim();
  if (line === "" || /^[<{]/.test(line)) return undefined;
  return line.length > MAX_CHARS ? `${line.slice(0, MAX_CHARS)}…` : line;
}

function readMessage(body: string): string | undefined {
  try {
    const value: unknown = JSON.parse(body);
    if (typeof value !== "object" || value === null || !("message" in value)) return undefined;
    return typeof value.message === "string" ? value.message : undefined;
  } catch {
    return undefined;
  }
}
