import { formatBazelRc } from "@glorious/cache-client";
import { expect, test } from "vitest";

import { readRcText } from "../../bazel-config/rc-file.ts";
import { choicesOf } from "./wanted-rc.ts";

const OPAQUE = "a token that only its server can read";

const choices = (
  request: { readonly mayPush: boolean; readonly isCompressed: boolean },
  {
    major = 7,
    token = OPAQUE,
  }: { readonly major?: number; readonly token?: string | undefined } = {},
) => {
  const release = { major, minor: 0 };
  const fixed = {
    remoteCache: "grpc://cache:1",
    instanceName: "main",
    credentialHelper: undefined,
  };
  const text = formatBazelRc({ release, ...fixed, ...request });
  return choicesOf(readRcText(text, "own.bazelrc"), { view: "main", token });
};

test("a file that chooses nothing shows no choice, whatever its Bazel", () => {
  const none = { isReadOnly: false, isUncompressed: false };
  expect(choices({ mayPush: true, isCompressed: true })).toEqual(none);
  expect(choices({ mayPush: true, isCompressed: true }, { major: 4 })).toEqual(none);
  expect(choicesOf([], { view: "main", token: OPAQUE })).toEqual(none);
});

test("--uncompressed and --read-only are seen in the file that they wrote", () => {
  expect(choices({ mayPush: true, isCompressed: false }).isUncompressed).toBe(true);
  expect(choices({ mayPush: false, isCompressed: true }).isReadOnly).toBe(true);
});

test("who could not push anyway has chosen nothing", () => {
  const file = readRcText("build --noremote_upload_local_results\n", "own.bazelrc");
  expect(choicesOf(file, { view: "main", token: undefined }).isReadOnly).toBe(false);
});
