import { getInput } from "@actions/core";

import { InputError } from "./input-error.ts";

/** Reads one input as text; empty counts as not given. */
export function readText(name: string): string | undefined {
  const text = getInput(name);
  return text === "" ? undefined : text;
}

/**
 * Reads one input of a closed set. Empty, as a variable that is not set makes it, stands for the first of the set.
 *
 * @throws {InputError} for any other value.
 */
export function readChoice<const T extends string>(name: string, choices: readonly [T, ...T[]]): T {
  const text = getInput(name);
  const found = text === "" ? choices[0] : choices.find((choice) => choice === text);
  if (found !== undefined) return found;
  throw new InputError(`${name} is ${JSON.stringify(text)}; it may be ${choices.join(", ")}`);
}

/** Reads `true` or `false`; empty stands for `whenEmpty`. @throws {InputError} for anything else. */
export function readBoolean(name: string, whenEmpty: boolean): boolean {
  return readChoice(name, whenEmpty ? ["true", "false"] : ["false", "true"]) === "true";
}

/**
 * Reads a number of seconds from 1 up to a day; empty stands for `whenEmpty`.
 *
 * @throws {InputError} for anything else.
 */
export function readSeconds(name: string, whenEmpty: number): number {
  const text = getInput(name);
  if (text === "") return whenEmpty;
  const seconds = Number(text);
  if (/^\d+$/.test(text) && seconds >= 1 && seconds <= 86_400) return seconds;
  throw new InputError(
    `${name} is ${JSON.stringify(text)}; it is a whole number of seconds, such as 30`,
  );
}

/** Reads a whole number that may be left out. @throws {InputError} for anything else. */
export function readCount(name: string): number | undefined {
  const text = getInput(name);
  if (text === "") return undefined;
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new InputError(`${name} is ${JSON.stringify(text)}; it is a whole number, such as 40`);
}

/** Reads one regular expression a line. @throws {InputError} for one that is none. */
export function readPatterns(name: string): string[] {
  const lines = getInput(name)
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");
  for (const line of lines) {
    if (!isPattern(line)) {
      throw new InputError(`${name} holds ${JSON.stringify(line)}, which is no regular expression`);
    }
  }
  return lines;
}

/** Reads words, one a line or several. */
export function readWords(name: string): string[] {
  return getInput(name)
    .split(/\s+/)
    .filter((word) => word !== "");
}

function isPattern(text: string): boolean {
  try {
    return new RegExp(text) instanceof RegExp;
  } catch {
    return false;
  }
}

/** Reads an `http` or `https` address that may be left out. @throws {InputError} for another one. */
export function readUrl(name: string): string | undefined {
  const text = readText(name);
  if (text === undefined) return undefined;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol === "https:" || url?.protocol === "http:") return text;
  throw new InputError(`${name} is no address such as https://cache.example.org`);
}
