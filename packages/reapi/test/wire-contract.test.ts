import { readFileSync } from "node:fs";

import { expect, test } from "vitest";

import {
  ActionResultSchema,
  FetchBlobRequestSchema,
  HealthCheckRequestSchema,
  ReadRequestSchema,
  SemVerSchema,
  StatusSchema,
} from "../src/index.ts";
import { wireFacts } from "./wire-facts.ts";

// Made by make-wire-contract.ts, from programs that others built from the published files.
const published = readFileSync(new URL("fixtures/wire-contract.txt", import.meta.url), "utf8")
  .trim()
  .split("\n");

const files = [
  ActionResultSchema,
  FetchBlobRequestSchema,
  SemVerSchema,
  ReadRequestSchema,
  StatusSchema,
  HealthCheckRequestSchema,
].map((schema) => schema.file.proto);
const ours = files.flatMap(wireFacts);

test.each(files.map((file) => [file.name, file] as const))(
  "every fact of %s is the published one",
  (_name, file) => {
    expect(wireFacts(file).filter((fact) => !published.includes(fact))).toEqual([]);
  },
);

test("a message or service that we have has all that was published of it", () => {
  const names = new Set(ours.map(ownerOf));

  const expected = published.filter((fact) => names.has(ownerOf(fact)));

  expect(ours.toSorted()).toEqual(expected.toSorted());
});

/** The message, enum or service that a fact is about. */
function ownerOf(fact: string): string {
  if (fact.startsWith("/")) return fact.slice(0, fact.indexOf("/", 1));
  if (fact.startsWith("message ")) return fact.slice("message ".length);
  return fact.includes(" = ") ? fact.slice(0, fact.lastIndexOf(".")) : fact.split(" ", 1)[0]!;
}
