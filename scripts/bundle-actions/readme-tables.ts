import { readFile } from "node:fs/promises";
import path from "node:path";

import { parse } from "yaml";

interface Described {
  readonly description: string;
  readonly default?: string;
}

/** The README of an action with the tables between its markers made from `action.yml`. */
export async function renderReadme(action: string): Promise<string> {
  const readme = await readFile(path.join(action, "README.md"), "utf8");
  const { inputs, outputs } = parse(
    await readFile(path.join(action, "action.yml"), "utf8"),
  ) as Readonly<Record<"inputs" | "outputs", Readonly<Record<string, Described>>>>;
  const inputRows = Object.entries(inputs).map(([name, input]) => [
    `\`${name}\``,
    input.default === undefined ? "" : `\`${input.default}\``,
    input.description,
  ]);
  const outputRows = Object.entries(outputs).map(([name, { description }]) => [
    `\`${name}\``,
    description,
  ]);
  const withInputs = replaceBetween(readme, "inputs", [
    ["Input", "Default", "Meaning"],
    ...inputRows,
  ]);
  return replaceBetween(withInputs, "outputs", [["Output", "Meaning"], ...outputRows]);
}

/** Puts a table between the markers of a README. @throws {Error} when it has none. */
export function replaceBetween(
  text: string,
  name: string,
  rows: readonly (readonly string[])[],
  source = "action.yml",
): string {
  const [begin, end] = [`<!-- ${name} of ${source} -->`, `<!-- end of ${name} -->`];
  const [from, to] = [text.indexOf(begin), text.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`The README has no place for the ${name}: ${begin}`);
  return `${text.slice(0, from)}${begin}\n\n${formatTable(rows)}\n${text.slice(to)}`;
}

/** A table in Markdown whose columns are aligned, as the formatter has them. */
function formatTable(rows: readonly (readonly string[])[]): string {
  const cells = rows.map((row) => row.map((cell) => cell.replaceAll("|", String.raw`\|`)));
  const widths = (cells[0] ?? []).map((_, column) =>
    Math.max(...cells.map((row) => row[column]?.length ?? 0)),
  );
  const line = (row: readonly string[]): string =>
    `| ${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(" | ")} |\n`;
  const [head = [], ...body] = cells;
  return [line(head), line(widths.map((width) => "-".repeat(width))), ...body.map(line)].join("");
}
