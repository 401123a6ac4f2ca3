import { readFile } from "node:fs/promises";

import { expect, test } from "vitest";

import { parsePathInfoJson } from "./parse-path-info.ts";

const FIXTURES = new URL("fixtures/", import.meta.url);
const APP = "3zvpcyd7p3705ahlwf2dv1ka116ijd8z-app";
const DEV = "96n5k60qf6mh7c2b2s554z9sd92m1l8x-app-dev";
const DEP = "z4asv3j07d89ywjf8fxkn7sg6mf5s9q5-dep";
const TXT = "54sdlp4fdqkadydvqdb74448hk4qpbqm-t.nix";

async function parseFixture(name: string): Promise<ReturnType<typeof parsePathInfoJson>> {
  return parsePathInfoJson(await readFile(new URL(name, FIXTURES), "utf8"), "/nix/store");
}

test.each([
  "path-info-2.8.0.json",
  "path-info-2.26.3.json",
  "path-info-2.34.8-format-1.json",
  "path-info-2.34.8-format-2.json",
])("%s tells the same as every other version", async (name) => {
  const { valid, absent } = await parseFixture(name);

  expect(absent).toEqual([]);
  expect(new Set(valid.map(({ storePath }) => storePath.baseName))).toEqual(
    new Set([APP, DEV, DEP, TXT]),
  );
  expect(valid.find(({ storePath }) => storePath.baseName === APP)).toEqual({
    storePath: expect.objectContaining({ path: `/nix/store/${APP}` }),
    narHash: "bc5147e5024ab19eb3ff1fe0cab934da0e32ec884d8e53c37e5c56bdce1c7b5a",
    narSize: 216,
    references: [DEV, DEP],
    deriver: "9myx9r14kgsr43bl5vck2zyy3jmhvgd9-app.drv",
    signatures: [expect.stringMatching(/^fixture-1:/)],
  });
  expect(valid.find(({ storePath }) => storePath.baseName === TXT)).toEqual({
    storePath: expect.objectContaining({ name: "t.nix" }),
    narHash: "e29fb356803cfcbc4c5a73bb17c6ee91a1c03a7597f8c3dc51528fee7cafcbf2",
    narSize: 400,
    references: [],
    ca: "fixed:r:sha256:1wnbmxyfx3sja7fc7y4pflxc18cixv31gfvkb96brz1wh1bb77z2",
    signatures: [],
  });
});

test.each([
  "path-info-absent-2.8.0.json",
  "path-info-absent-2.26.3.json",
  "path-info-absent-2.34.8-format-2.json",
])("%s names the path that is not valid", async (name) => {
  const { valid, absent } = await parseFixture(name);
  expect(valid.map(({ storePath }) => storePath.baseName)).toEqual([DEP]);
  expect(absent).toEqual(["/nix/store/00000000000000000000000000000000-absent"]);
});

test.each(["", "[{}]", '{"/nix/store/x":{}}', "3", `{"/nix/store/${APP}":{"narSize":-1}}`])(
  "%j is refused with a code",
  (text) => {
    expect(() => parsePathInfoJson(text, "/nix/store")).toThrow(
      expect.objectContaining({ code: expect.stringMatching(/^(UNSUPPORTED|INVALID)$/) }),
    );
  },
);
