import type { FileState } from "@glorious/cache-client";
import fc from "fast-check";
import { expect, test } from "vitest";

import { parseNetrc } from "../user-files/netrc.ts";
import { parseNixConf } from "./nix-conf.ts";
import { planUndo, planUse, readBlock, type UseRequest } from "./plan-use.ts";

const CONF = "/home/a/.config/nix/nix.conf";
const NETRC = "/home/a/.config/nix/netrc";
const MAIN = { substituter: "http://127.0.0.1:8080/main", publicKeys: ["main-1:AAAA"] };
const OTHER = { substituter: "http://127.0.0.1:9090/other", publicKeys: ["other-1:BBBB"] };

/** A machine with two files; plans are carried out at once. */
function machine(conf: string | undefined, netrc: string | undefined) {
  const files = new Map<string, string | undefined>([
    [CONF, conf],
    [NETRC, netrc],
  ]);
  const state = (path: string): FileState => ({ path, text: files.get(path) });
  const old = () => readBlock(state(CONF)).netrcFile;
  return {
    text: (path: string) => files.get(path),
    use(cache: UseRequest["cache"], token: string | undefined, more: Partial<UseRequest> = {}) {
      const oldPath = old();
      const plan = planUse({
        cache,
        token,
        nixConf: state(CONF),
        oldNetrc: oldPath === undefined ? undefined : state(oldPath),
        netrc: state(NETRC),
        setsNetrcFile: true,
        trustedKeys: [],
        ...more,
      });
      for (const { path, text } of plan.changes) files.set(path, text);
      return plan;
    },
    undo(isUnwanted: (cache: UseRequest["cache"]) => boolean = () => true) {
      const oldPath = old();
      const plan = planUndo({
        nixConf: state(CONF),
        netrc: oldPath === undefined ? undefined : state(oldPath),
        isUnwanted,
      });
      for (const { path, text } of plan.changes) files.set(path, text);
      return plan;
    },
  };
}

test("a new machine gets substituter, key and netrc as one unit", () => {
  const nix = machine(undefined, undefined);
  nix.use(MAIN, "t.o.k");
  expect(parseNixConf(nix.text(CONF) ?? "")).toEqual([
    { name: "extra-substituters", value: MAIN.substituter },
    { name: "extra-trusted-public-keys", value: "main-1:AAAA" },
    { name: "netrc-file", value: NETRC },
  ]);
  expect(parseNetrc(nix.text(NETRC) ?? "")).toMatchObject([
    { host: "127.0.0.1", password: "t.o.k" },
  ]);
  expect(nix.text(CONF)).not.toContain("t.o.k");
  nix.undo();
  expect(nix.text(CONF)).toBeUndefined();
  expect(nix.text(NETRC)).toBeUndefined();
});

test("any files of the user's come back byte for byte, and a second use changes nothing", () => {
  const line = fc.oneof(
    fc.constantFrom(
      "# my own",
      "!include secrets.conf",
      "include other.conf",
      "substituters = https://cache.nixos.org",
      "netrc-file = /home/a/.netrc",
      "machine example.org login a password b",
      "no setting at all",
      "",
      "\u00fc\u00ff",
    ),
    fc.string({ unit: "binary-ascii" }),
  );
  const file = fc.option(
    fc
      .tuple(fc.array(line), fc.constantFrom("\n", "\r\n"), fc.boolean())
      .map(([lines, feed, isEnded]) => lines.join(feed) + (isEnded ? feed : "")),
    { nil: undefined },
  );
  const token = fc.option(fc.constantFrom("t1", "t2"), { nil: undefined });
  const uses = fc.array(fc.tuple(fc.constantFrom(MAIN, OTHER), token), { minLength: 1 });
  fc.assert(
    fc.property(file, file, uses, (conf, netrc, sequence) => {
      const nix = machine(conf, netrc);
      for (const [cache, secret] of sequence) {
        nix.use(cache, secret);
        expect(nix.use(cache, secret).changes).toEqual([]);
      }
      nix.undo();
      expect(nix.text(CONF)).toBe(conf);
      expect(nix.text(NETRC)).toBe(netrc);
      expect(nix.undo().changes).toEqual([]);
    }),
  );
});

test("our lines come last, so that a plain setting before them does not undo them", () => {
  const nix = machine("substituters = https://a.example", undefined);
  nix.use(MAIN, undefined);
  nix.use(OTHER, undefined);
  const names = parseNixConf(nix.text(CONF) ?? "").map((entry) => "name" in entry && entry.name);
  expect(names[0]).toBe("substituters");
  expect(names.slice(1)).not.toContain("substituters");
});

test("lines that the user wrote below the block move above it with the next use", () => {
  const nix = machine("a = 1\n", undefined);
  nix.use(MAIN, undefined);
  const edited = machine(`${nix.text(CONF)}substituters = https://a.example\n`, undefined);
  edited.use(MAIN, undefined);
  expect(edited.text(CONF)?.startsWith("a = 1\nsubstituters = https://a.example\n# >>>")).toBe(
    true,
  );
  edited.undo();
  expect(edited.text(CONF)).toBe("a = 1\nsubstituters = https://a.example\n");
});

test("undoing one view leaves the others and their token", () => {
  const nix = machine(undefined, undefined);
  nix.use(MAIN, "t");
  nix.use(OTHER, "t");
  expect(nix.undo((cache) => cache.substituter === MAIN.substituter).removed).toEqual([MAIN]);
  expect(readBlock({ path: CONF, text: nix.text(CONF) })).toEqual({
    caches: [OTHER],
    netrcFile: NETRC,
    setsNetrcFile: true,
  });
  expect(nix.text(NETRC)).toContain("password t");
});

test("a public view needs no netrc", () => {
  const nix = machine(undefined, undefined);
  nix.use(MAIN, undefined);
  expect(nix.text(NETRC)).toBeUndefined();
  expect(nix.text(CONF)).not.toContain("netrc");
});

test("a netrc that Nix reads anyway is merged into and not named again", () => {
  const own = "default login me password mine\n";
  const nix = machine(`netrc-file = ${NETRC}\n`, own);
  nix.use(MAIN, "t", { setsNetrcFile: false });
  expect(
    parseNixConf(nix.text(CONF) ?? "").filter((e) => "name" in e && e.name === "netrc-file"),
  ).toHaveLength(1);
  // Before the user's default entry, which would hide it.
  expect(parseNetrc(nix.text(NETRC) ?? "").map(({ host }) => host)).toEqual([
    "127.0.0.1",
    undefined,
  ]);
});

test("an entry of the user's for the same host is a warning and survives", () => {
  const own = "machine 127.0.0.1 login me password mine\n";
  const nix = machine(undefined, own);
  expect(nix.use(MAIN, "t").warnings).toEqual([expect.stringContaining("whatever the port")]);
  nix.undo();
  expect(nix.text(NETRC)).toBe(own);
  expect(machine(undefined, "machine 127.0.0.1 password t").use(MAIN, "t").warnings).toEqual([]);
});

test("another token for the same host on another port is a warning that names who is hit", () => {
  const nix = machine(undefined, undefined);
  nix.use(MAIN, "t1");
  expect(nix.use(OTHER, "t1").warnings).toEqual([]);
  expect(nix.use(OTHER, "t2").warnings).toEqual([expect.stringContaining(MAIN.substituter)]);
  expect(parseNetrc(nix.text(NETRC) ?? "")).toHaveLength(1);
});

test("two keys of one name are a warning", () => {
  const nix = machine(undefined, undefined);
  expect(nix.use(MAIN, undefined, { trustedKeys: ["main-1:CCCC"] }).warnings).toHaveLength(1);
  expect(nix.use(MAIN, undefined, { trustedKeys: ["main-1:AAAA"] }).warnings).toEqual([]);
});

test("all keys of a view are trusted, and a later use takes those that it has by then", () => {
  const nix = machine(undefined, undefined);
  const trusted = (): unknown => readBlock({ path: CONF, text: nix.text(CONF) }).caches;
  const rotating = { ...MAIN, publicKeys: ["main-1:AAAA", "main-2:DDDD"] };
  nix.use(MAIN, undefined);
  nix.use(rotating, undefined);
  expect(nix.text(CONF)).toContain("extra-trusted-public-keys = main-1:AAAA main-2:DDDD\n");
  expect(trusted()).toEqual([rotating]);
  expect(nix.use(OTHER, undefined, { trustedKeys: ["main-2:EEEE"] }).warnings).toEqual([]);
  expect(nix.use(rotating, undefined, { trustedKeys: ["main-2:EEEE"] }).warnings).toHaveLength(1);

  const rotated = { ...MAIN, publicKeys: ["main-2:DDDD"] };
  nix.use(rotated, undefined);
  expect(trusted()).toEqual([rotated, OTHER]);
});

test("when the netrc file becomes another one, the tokens move", () => {
  const nix = machine(undefined, undefined);
  nix.use(MAIN, "t");
  nix.use(MAIN, "t", {
    netrc: { path: "/etc/nix/netrc", text: "# theirs\n" },
    setsNetrcFile: false,
  });
  expect(nix.text(NETRC)).toBeUndefined();
  expect(nix.text("/etc/nix/netrc")).toMatch(/password t\n[^]*# theirs\n$/);
  nix.undo();
  expect(nix.text("/etc/nix/netrc")).toBe("# theirs\n");
});

test("a file name that nix.conf cannot hold is refused", () => {
  expect(() =>
    machine(undefined, undefined).use(MAIN, "t", { netrc: { path: "/a #b", text: undefined } }),
  ).toThrow(expect.objectContaining({ code: "CONFIG" }));
});

test("no warning quotes a token", () => {
  const nix = machine(undefined, "machine 127.0.0.1 password sesame0");
  nix.use(MAIN, "sesame1");
  const { warnings } = nix.use(OTHER, "sesame2");
  expect(warnings).not.toEqual([]);
  expect(warnings.join()).not.toMatch(/sesame/);
});
