import { expect, test } from "vitest";

import { known, notTried, valueOf } from "../doctor/probe.ts";
import { HEALTHY } from "./fixtures/healthy-snapshot.ts";
import { readerOf } from "./reader.ts";

const OWN = valueOf(HEALTHY.nix.settings);
const SYSTEM = valueOf(HEALTHY.nix.systemSettings);

function withDaemon(store: { readonly isTrusted: boolean; readonly version?: string }) {
  if (SYSTEM === undefined) throw new Error("A healthy machine has settings");
  return readerOf(
    {
      settings: HEALTHY.nix.settings,
      systemSettings: known({ ...SYSTEM, netrcFile: "/etc/nix/netrc" }),
      store: known({ url: "daemon", version: "2.26.3", ...store }),
    },
    HEALTHY.user,
  );
}

test("without a daemon the user's settings are in force", () => {
  expect(readerOf(HEALTHY.nix, HEALTHY.user)).toMatchObject({ kind: "user", ...OWN });
});

test("a daemon takes everything from a user it trusts", () => {
  expect(withDaemon({ isTrusted: true })).toMatchObject({
    kind: "daemon",
    substituters: OWN?.substituters,
    netrcFile: OWN?.netrcFile,
  });
});

test("Nix 2.34.0 takes no netrc file from anybody", () => {
  expect(withDaemon({ isTrusted: true, version: "2.34.0" })?.netrcFile).toBe("/etc/nix/netrc");
  expect(withDaemon({ isTrusted: true, version: "2.34.8" })?.netrcFile).toBe(OWN?.netrcFile);
});

test("a daemon takes nothing new from a user it does not trust", () => {
  expect(withDaemon({ isTrusted: false })).toMatchObject({
    substituters: [],
    trustedPublicKeys: [],
    netrcFile: "/etc/nix/netrc",
  });
});

test("unknown settings make no reader", () => {
  const settings = notTried("Nix is not there");
  expect(readerOf({ ...HEALTHY.nix, settings }, HEALTHY.user)).toBeUndefined();
});
