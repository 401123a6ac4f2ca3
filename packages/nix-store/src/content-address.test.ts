import fc from "fast-check";
import { expect, test } from "vitest";

import {
  contentAddressedPath,
  formatContentAddress,
  isContentAddressed,
  parseContentAddress,
  parseHash,
  parseStorePath,
} from "./index.ts";

const NIX32 = "1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s";
const INVALID = expect.objectContaining({ code: "INVALID" });

test("any content address survives its text", () => {
  const method = fc.constantFrom("text", "flat", "nar", "git");
  fc.assert(
    fc.property(method, fc.uint8Array({ minLength: 32, maxLength: 32 }), (kind, bytes) => {
      const address = {
        method: kind,
        hash: { algorithm: "sha256" as const, bytes: Buffer.from(bytes) },
      };
      expect(parseContentAddress(formatContentAddress(address))).toEqual(address);
    }),
  );
});

test("a hash in hex is read and written as nix32", () => {
  const hex = parseHash(`sha256:${NIX32}`).bytes.toString("hex");
  expect(formatContentAddress(parseContentAddress(`fixed:r:sha256:${hex}`))).toBe(
    `fixed:r:sha256:${NIX32}`,
  );
});

test.each([
  "",
  "text",
  `sha256:${NIX32}`,
  `fixed:${NIX32}`,
  `fixed:x:sha256:${NIX32}`,
  `fixed:r:sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=`,
  "text:sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709",
  `text:r:sha256:${NIX32}`,
  `fixed:r:sha256:${NIX32} `,
])("%j is no content address and is refused", (text) => {
  expect(() => parseContentAddress(text)).toThrow(INVALID);
});

// Nix 2.8 built this with NIX_STORE_DIR set to /tmp/example/store, from a derivation that writes its own path.
test("a path that refers to itself is content-addressed", () => {
  const storeDir = "/tmp/example/store";
  const self = "4iwzzqm8w12pjlikrbayg889hlhrcxm6-selfish";
  const references = ["1hqnp6cz4zil11vrf31qvri33qfl6mql-x", self];
  const ca = "fixed:r:sha256:1ksx48xvs9cysrpzmkif9b9hpv0rdw3a69yq5fqym4f3jssspggy";
  const path = parseStorePath(`${storeDir}/${self}`, storeDir);
  expect(isContentAddressed(path, { ca, references })).toBe(true);
  expect(isContentAddressed(path, { ca, references: references.slice(0, 1) })).toBe(false);
  expect(isContentAddressed(path, { ca, references: [self] })).toBe(false);
});

test.each([`fixed:sha256:${NIX32}`, "fixed:r:sha1:kpcd173cq987hw957sx6m0868wv3x6d9"])(
  "%s has no path with references",
  (text) => {
    const references = ["7d2ch0vw00r36i3qh5n06rj7wx8iacj0-x"];
    const address = parseContentAddress(text);
    expect(contentAddressedPath(address, { name: "x", references })).toBeUndefined();
    expect(contentAddressedPath(address, { name: "x", references: [] })).toMatch(/^\/nix\/store\//);
  },
);

test("a text that names itself has no path", () => {
  const address = parseContentAddress(`text:sha256:${NIX32}`);
  expect(
    contentAddressedPath(address, { name: "x", references: [], isSelfReferring: true }),
  ).toBeUndefined();
});
