import fc from "fast-check";
import { expect, test } from "vitest";

import {
  buildTraceFingerprint,
  encodeNix32,
  formatBuildTraceEntry,
  formatRealisation,
  formatRealisationId,
  parseBuildTraceEntry,
  parseBuildTraceKey,
  parseRealisation,
  parseRealisationId,
} from "./index.ts";

const HEX = "bd36346f2eaf6e9d15489c6ed61905e5299c9a3628b92972f38d51bd1e592284";
const ID = `sha256:${HEX}!out`;
const PATH = "67j4pcyfzrdafr4d3069vpr5jrgxd7gz-lower";
const CORRUPT = expect.objectContaining({ code: "CORRUPT" });
const INVALID = expect.objectContaining({ code: "INVALID" });

const hex = fc
  .uint8Array({ minLength: 32, maxLength: 32 })
  .map((bytes) => Buffer.from(bytes).toString("hex"));
const id = fc.record({ derivationHash: hex, outputName: fc.constantFrom("out", "dev", "a.b-1") });
const outPath = fc
  .uint8Array({ minLength: 20, maxLength: 20 })
  .map((bytes) => `${encodeNix32(bytes)}-x`);
const signatures = fc.uniqueArray(fc.constantFrom("a:AA==", "b:AA==", "\u00e9:BB==", "a:CC=="));

test("any realisation survives its text, its signatures sorted", () => {
  const dependentRealisations = fc
    .array(fc.tuple(id.map(formatRealisationId), outPath), { maxLength: 4 })
    .map((pairs) => new Map(pairs));
  const anyRealisation = fc.record({ id, outPath, signatures, dependentRealisations });
  fc.assert(
    fc.property(anyRealisation, (realisation) => {
      const expected = { ...realisation, signatures: realisation.signatures.toSorted() };
      expect(parseRealisation(formatRealisation(realisation))).toEqual(expected);
    }),
  );
});

test("any build trace entry survives its text, its signatures sorted", () => {
  fc.assert(
    fc.property(fc.record({ outPath, signatures }), (entry) => {
      const expected = { ...entry, signatures: entry.signatures.toSorted() };
      expect(parseBuildTraceEntry(formatBuildTraceEntry(entry))).toEqual(expected);
    }),
  );
});

// The next two are written after src/libstore/realisation.cc of Nix 2.35.
test("a build trace entry is written with its keys sorted", () => {
  const entry = { outPath: PATH, signatures: ["b-1:BB==", "a-1:AA=="] };
  expect(formatBuildTraceEntry(entry)).toBe(
    `{"outPath":"${PATH}","signatures":[{"keyName":"a-1","sig":"AA=="},{"keyName":"b-1","sig":"BB=="}]}`,
  );
});

test("the fingerprint of a build trace entry holds key and value without signatures", () => {
  const drvPath = "qh4kz4qzcrhb7mdp4v92kkdka83aw2lw-lower.drv";
  expect(buildTraceFingerprint(parseBuildTraceKey(drvPath, "out"), { outPath: PATH })).toBe(
    `{"key":{"drvPath":"${drvPath}","outputName":"out"},"value":{"outPath":"${PATH}"}}`,
  );
});

test("a build trace entry may carry signatures as text, and fields we do not know", () => {
  const text = `{"outPath":"${PATH}","signatures":["a:AA=="],"future":{}}`;
  expect(parseBuildTraceEntry(text)).toEqual({ outPath: PATH, signatures: ["a:AA=="] });
});

test("absent signatures and dependencies are none", () => {
  expect(parseRealisation(`{"id":"${ID}","outPath":"${PATH}"}`)).toEqual({
    id: { derivationHash: HEX, outputName: "out" },
    outPath: PATH,
    signatures: [],
    dependentRealisations: new Map(),
  });
});

test.each([
  "",
  "[]",
  "null",
  `{"outPath":"${PATH}"}`,
  `{"id":"${ID}"}`,
  `{"id":"out","outPath":"${PATH}"}`,
  `{"id":"${ID}","outPath":"/nix/store/${PATH}"}`,
  `{"id":"${ID}","outPath":"../x"}`,
  `{"id":"${ID}","outPath":7}`,
  `{"id":"${ID}","outPath":"${PATH}","signatures":"a:AA=="}`,
  `{"id":"${ID}","outPath":"${PATH}","signatures":[{"keyName":"a","sig":"AA=="}]}`,
  `{"id":"${ID}","outPath":"${PATH}","dependentRealisations":[]}`,
  `{"id":"${ID}","outPath":"${PATH}","dependentRealisations":{"x":"${PATH}"}}`,
  `{"id":"${ID}","outPath":"${PATH}","dependentRealisations":{"${ID}":"x"}}`,
])("the realisation %s is CORRUPT", (text) => {
  expect(() => parseRealisation(text)).toThrow(CORRUPT);
});

test.each([
  "{",
  "7",
  `{"outPath":"x"}`,
  `{"outPath":"${PATH}","signatures":{}}`,
  `{"outPath":"${PATH}","signatures":["nokey"]}`,
  `{"outPath":"${PATH}","signatures":[{"keyName":"a"}]}`,
  `{"outPath":"${PATH}","signatures":[{"keyName":"a:b","sig":"AA=="}]}`,
  `{"outPath":"${PATH}","signatures":[{"keyName":"","sig":"AA=="}]}`,
])("the build trace entry %s is CORRUPT", (text) => {
  expect(() => parseBuildTraceEntry(text)).toThrow(CORRUPT);
});

test.each([
  "",
  HEX,
  `sha256:${HEX}`,
  `sha256:${HEX}!`,
  `sha256:${HEX.toUpperCase()}!out`,
  `sha512:${HEX}!out`,
  `sha256:${HEX}!../../x`,
  `sha256:${HEX}!out\n`,
  `sha256:${HEX}!..`,
])("%j is no realisation's name", (text) => {
  expect(() => parseRealisationId(text)).toThrow(INVALID);
});

test.each([
  [PATH, "out"],
  ["lower.drv", "out"],
  [`${PATH}.drv`, ""],
  [`${PATH}.drv`, "../x"],
  [`../${PATH}.drv`, "out"],
])("%j and %j are no build trace key", (drvPath, outputName) => {
  expect(() => parseBuildTraceKey(drvPath, outputName)).toThrow(INVALID);
});
