import fc from "fast-check";
import { expect, test } from "vitest";

import { createSecretMasker } from "./secret-masker.ts";

test("a secret is replaced, and so is each line of one that has several", () => {
  const masker = createSecretMasker();
  masker.add("first line\nsecond line\n");
  expect(masker.mask("a first line, then the second line")).toBe("a ***, then the ***");
});

test("its usual encodings are replaced too", () => {
  const masker = createSecretMasker();
  const secret = 'tok"en/with+signs';
  masker.add(secret);
  expect(masker.mask(JSON.stringify({ secret }))).toBe('{"secret":"***"}');
  expect(masker.mask(encodeURIComponent(secret))).toBe("***");
});

test("base64 of a text that holds the secret does not show it, wherever it stands", () => {
  fc.assert(
    fc.property(
      fc.string({ maxLength: 9 }),
      fc.stringMatching(/^[\w.-]{12,40}$/),
      fc.string({ maxLength: 9 }),
      (before, secret, after) => {
        const masker = createSecretMasker();
        masker.add(secret);
        const encoded = Buffer.from(before + secret + after).toString("base64");
        expect(masker.mask(encoded)).toContain("***");
      },
    ),
  );
});

test("a secret within another one does not keep the longer one from being found", () => {
  const masker = createSecretMasker();
  masker.add("inner");
  masker.add("outer-inner-outer");
  expect(masker.mask("outer-inner-outer inner")).toBe("*** ***");
});

test("an empty secret hides nothing", () => {
  const masker = createSecretMasker();
  masker.add(" ");
  expect(masker.mask("a b")).toBe("a b");
});
