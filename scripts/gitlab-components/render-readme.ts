import { replaceBetween } from "../bundle-actions/readme-tables.ts";
import type { Component } from "./render-component.ts";

/** The README of the catalog's project, with its tables made from the components. */
export function renderComponentReadme(readme: string, components: readonly Component[]): string {
  const overview = [
    ["Component", "What it gives"],
    ...components.map(({ name, purpose }) => [`[\`${name}\`](templates/${name}.yml)`, purpose]),
  ];
  let text = replaceBetween(readme, "components", overview, "templates");
  for (const { name, inputs } of components) {
    const rows = Object.entries(inputs).map(([input, { description, ...given }]) => [
      `\`${input}\``,
      given.default === "" ? "" : `\`${given.default}\``,
      description,
    ]);
    text = replaceBetween(
      text,
      `inputs of ${name}`,
      [["Input", "Default", "Meaning"], ...rows],
      "its template",
    );
  }
  return text;
}
