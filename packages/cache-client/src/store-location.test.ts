import { expect, test } from "vitest";

import { locateStore } from "./store-location.ts";

test.each([
  [undefined, "/nix/store"],
  ["auto", "/nix/store"],
  ["daemon", "/nix/store"],
  ["local", "/nix/store"],
  ["unix:///run/nix.sock", "/nix/store"],
  ["/mnt/root", "/mnt/root/nix/store"],
  ["local?root=/mnt/root/", "/mnt/root/nix/store"],
  ["local?root=/mnt/root&require-sigs=false", "/mnt/root/nix/store"],
  ["unix:///run/nix.sock?root=/mnt/root", "/mnt/root/nix/store"],
  ["local?real=/data/store&state=/data/var", "/data/store"],
])("the files of store %j lie in %s", (store, realStoreDir) => {
  expect(locateStore(store, "/nix/store")).toEqual({ storeDir: "/nix/store", realStoreDir });
});

test.each(["ssh://host", "https://cache.nixos.org", "s3://bucket", "file:///tmp/cache"])(
  "the files of %s are not here",
  (store) => {
    expect(() => locateStore(store, "/nix/store")).toThrow(
      expect.objectContaining({
        code: "UNSUPPORTED",
        message: expect.stringContaining("not on this machine"),
      }),
    );
  },
);
