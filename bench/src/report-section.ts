import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

const REPORT = fileURLToPath(new URL("../../docs/benchmarks.md", import.meta.url));

/** Puts a section into docs/benchmarks.md, in the place of the one with that heading or at the end. */
export async function writeSection(heading: string, text: string): Promise<void> {
  const report = (await readFile(REPORT, "utf8")).trimEnd();
  const sections = report.split(/\n(?=## )/);
  const at = sections.findIndex((section) => section.startsWith(`## ${heading}\n`));
  const section = `## ${heading}\n\n${text.trim()}\n`;
  if (at === -1) sections.push(section);
  else sections[at] = section;
  await writeFile(REPORT, `${sections.map((each) => each.trimEnd()).join("\n\n")}\n`);
}
