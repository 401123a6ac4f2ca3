import type { FileState } from "@glorious/cache-client";
import fc from "fast-check";
import { expect, test } from "vitest";

import {
  type BazelCredential,
  type BazelFiles,
  type BazelPlan,
  planUndoBazel,
  planUseBazel,
} from "./plan-use-bazel.ts";

const PATHS = {
  userRc: "/home/a/.bazelrc",
  ownRc: "/home/a/.config/flywheel/bazel/bazelrc",
  credentialHelper: "/home/a/.config/flywheel/bazel/credential-helper",
  tokenFile: "/home/a/.config/flywheel/bazel/token",
  netrc: "/home/a/.netrc",
} as const;
type Name = keyof typeof PATHS;
const NAMES = Object.keys(PATHS) as Name[];

const NETRC: BazelCredential = { kind: "netrc", host: "cache.example.org", token: "secret" };
const HELPER: BazelCredential = { kind: "helper", script: "#!/bin/sh\n", token: "secret" };
const CREDENTIALS: readonly BazelCredential[] = [
  { kind: "none" },
  HELPER,
  { kind: "helper", script: "#!/bin/sh\n", token: undefined },
  NETRC,
];

function filesOf(texts: Partial<Record<Name, string>>): BazelFiles {
  const state = (name: Name): FileState => ({ path: PATHS[name], text: texts[name] });
  return {
    userRc: state("userRc"),
    ownRc: state("ownRc"),
    credentialHelper: state("credentialHelper"),
    tokenFile: state("tokenFile"),
    netrc: state("netrc"),
  };
}

function apply(files: BazelFiles, { changes }: BazelPlan): BazelFiles {
  const texts: Partial<Record<Name, string>> = {};
  for (const name of NAMES) {
    const change = changes.find(({ path }) => path === PATHS[name]);
    const text = change === undefined ? files[name].text : change.text;
    if (text !== undefined) texts[name] = text;
  }
  return filesOf(texts);
}

const TEXT = fc.option(
  fc.string({ unit: fc.constantFrom("build ", "--jobs=3", "#", "\n", "machine x", "\u00e4") }),
  { nil: undefined },
);

test("undo gives the very files back, whatever was used in between", () => {
  fc.assert(
    fc.property(
      TEXT,
      TEXT,
      fc.array(fc.constantFrom(...CREDENTIALS), { minLength: 1, maxLength: 4 }),
      (userRc, netrc, credentials) => {
        const before = filesOf({
          ...(userRc === undefined ? {} : { userRc }),
          ...(netrc === undefined ? {} : { netrc }),
        });
        let files = before;
        for (const credential of credentials) {
          files = apply(files, planUseBazel(files, "build --remote_cache=x\n", credential));
        }
        expect(apply(files, planUndoBazel(files))).toEqual(before);
      },
    ),
  );
});

test("the second time changes nothing", () => {
  for (const credential of CREDENTIALS) {
    const files = filesOf({ userRc: "build --jobs=3" });
    const once = apply(files, planUseBazel(files, "build\n", credential));
    expect(planUseBazel(once, "build\n", credential).changes).toEqual([]);
  }
});

test("your rc file gets one line, behind your own, and no secret", () => {
  const files = filesOf({ userRc: "build --jobs=3\n" });
  const after = apply(files, planUseBazel(files, "build --remote_cache=x\n", HELPER));
  const lines = (after.userRc.text ?? "").split("\n").filter((line) => !line.startsWith("#"));
  expect(lines).toEqual(["build --jobs=3", `try-import ${PATHS.ownRc}`, ""]);
  expect(`${after.userRc.text}${after.ownRc.text}${after.credentialHelper.text}`).not.toContain(
    "secret",
  );
});

test("what holds a token is marked as secret, and the helper as a program", () => {
  const kinds = (credential: BazelCredential): unknown =>
    planUseBazel(filesOf({}), "", credential).changes.map(({ path, isSecret, isProgram }) => ({
      path,
      isSecret,
      isProgram,
    }));
  expect(kinds(HELPER)).toEqual(
    expect.arrayContaining([
      { path: PATHS.tokenFile, isSecret: true, isProgram: undefined },
      { path: PATHS.credentialHelper, isSecret: false, isProgram: true },
    ]),
  );
  expect(kinds(NETRC)).toContainEqual({ path: PATHS.netrc, isSecret: true, isProgram: undefined });
});

test("an own entry for the same host is told of", () => {
  const files = filesOf({ netrc: "machine cache.example.org login me password mine\n" });
  const { warnings } = planUseBazel(files, "", NETRC);
  expect(warnings).toEqual([expect.stringContaining("cache.example.org")]);
  expect(warnings.join("")).not.toContain("mine");
});

test("a folder of any name is written as it is", () => {
  const helper = "/home/hömé 日本/credential-helper";
  const script = `#!/bin/sh\ncat '${helper}'\n`;
  const { changes } = planUseBazel(filesOf({}), `build "--credential_helper=a=${helper}"\n`, {
    ...{ kind: "helper", token: undefined },
    script,
  });
  const written = (name: Name): string =>
    Buffer.from(changes.find(({ path }) => path === PATHS[name])?.text ?? "", "latin1").toString();

  expect(written("ownRc")).toContain(`=a=${helper}"`);
  expect(written("credentialHelper")).toBe(script);
});
