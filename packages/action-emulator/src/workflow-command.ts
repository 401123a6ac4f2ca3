/** A `::name key=value,…::data` line. */
export interface WorkflowCommand {
  /** In lower case, as the runner compares it. */
  readonly name: string;
  readonly properties: Readonly<Record<string, string>>;
  readonly data: string;
}

/**
 * Parses one line of a step's output as a workflow command; `undefined` when it is ordinary output.
 *
 * Leading spaces are allowed, values are unescaped (`%0A`, `%0D`, `%25`, and in properties `%3A`, `%2C`).
 *
 * @see `ActionCommand.cs` of actions/runner.
 */
export function parseWorkflowCommand(line: string): WorkflowCommand | undefined {
  const text = line.trimStart();
  if (!text.startsWith("::")) return undefined;
  const end = text.indexOf("::", 2);
  if (end < 0) return undefined;
  const head = text.slice(2, end);
  const space = head.indexOf(" ");
  const name = (space < 0 ? head : head.slice(0, space)).toLowerCase();
  if (name === "") return undefined;
  const properties: Record<string, string> = {};
  for (const part of space < 0 ? [] : head.slice(space + 1).split(",")) {
    const equals = part.indexOf("=");
    if (equals <= 0) continue;
    properties[part.slice(0, equals).trim()] = unescapeProperty(part.slice(equals + 1));
  }
  return { name, properties, data: unescapeData(text.slice(end + 2)) };
}

function unescapeData(text: string): string {
  return text.replaceAll("%0D", "\r").replaceAll("%0A", "\n").replaceAll("%25", "%");
}

function unescapeProperty(text: string): string {
  return unescapeData(text.replaceAll("%3A", ":").replaceAll("%2C", ","));
}
