import { CacheError } from "@glorious/core";

/** A parser of one of a few words. Throws `INVALID` otherwise. */
export function oneOf<const Word extends string>(
  ...words: readonly Word[]
): (text: string) => Word {
  return (text) => {
    const found = words.find((word) => word === text);
    if (found !== undefined) return found;
    throw new CacheError("INVALID", `${JSON.stringify(text)} is none of ${words.join(", ")}`);
  };
}
