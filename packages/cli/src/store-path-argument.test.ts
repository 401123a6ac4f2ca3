import { expect, test } from "vitest";

import { readStorePathHash } from "./store-path-argument.ts";

test("a word that is neither a store path nor a hash is named as that", () => {
  expect(() => readStorePathHash("typo")).toThrow(
    '"typo" is neither a store path nor its hash of 32 characters',
  );
});
