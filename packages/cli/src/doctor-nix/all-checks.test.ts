import type { ViewUpstream, ViewUpstreams } from "@glorious/cache-client";
import { describe, expect, test } from "vitest";

import type { Answer } from "../doctor/answer.ts";
import type { Severity } from "../doctor/finding.ts";
import { failed, known, notTried, valueOf } from "../doctor/probe.ts";
import { CHECKS, examine } from "./all-checks.ts";
import {
  HEALTHY,
  NAR_INFO,
  NOW_MS,
  OTHER_PUBLIC_KEY,
  PUBLIC_KEY,
  tokenOf,
} from "./fixtures/healthy-snapshot.ts";
import type { NixSettings } from "./nix-settings.ts";
import type { NarFacts, Snapshot, StoreFacts } from "./snapshot.ts";

const DAY_MS = 24 * 3600 * 1000;
type Change = (healthy: Snapshot) => Snapshot;

/** Changes of a healthy machine, by what they concern. */
const nix =
  (change: Partial<Snapshot["nix"]>): Change =>
  (it) => ({ ...it, nix: { ...it.nix, ...change } });
const settings = (change: Partial<NixSettings>): Change =>
  nix({ settings: known({ ...settingsOf("settings"), ...change }) });
const daemon =
  (store: Partial<StoreFacts>, system: Partial<NixSettings> = {}): Change =>
  (it) =>
    nix({
      store: known({ url: "daemon", version: "2.26.3", isTrusted: undefined, ...store }),
      systemSettings: known({ ...settingsOf("systemSettings"), ...system }),
    })(it);
const netrc =
  (change: Partial<Snapshot["netrc"]>): Change =>
  (it) => ({ ...it, netrc: { ...it.netrc, ...change } });
const token =
  (password: string): Change =>
  (it) =>
    netrc({ entries: known([{ host: "cache.example.org", password, line: 1 }]) })(it);
const network =
  (change: Partial<Snapshot["network"]>): Change =>
  (it) => ({ ...it, network: { ...it.network, ...change } });
const server =
  (change: Partial<Snapshot["server"]>): Change =>
  (it) => ({ ...it, server: { ...it.server, ...change } });
const answer =
  (change: Partial<Answer>): Change =>
  (it) =>
    server({
      cacheInfo: known({ status: 200, body: "", dateMs: undefined, atMs: NOW_MS, ...change }),
    })(it);
const path =
  (change: Partial<Snapshot["path"]>): Change =>
  (it) => ({ ...it, path: { ...it.path, ...change } });
const nar =
  (change: Partial<NarFacts>): Change =>
  (it) => {
    const facts = valueOf(it.path.nar);
    return facts === undefined ? it : path({ nar: known({ ...facts, ...change }) })(it);
  };
const makePublic: Change = server({
  config: known({
    kind: "flywheel",
    config: { publicKey: PUBLIC_KEY, isPublic: true },
    upstreams: undefined,
  }),
});
/** What is read when the view is: `main` alone, or `main` and what lies behind it. */
const reading =
  (change: (healthy: ViewUpstream) => Partial<ViewUpstreams>): Change =>
  (it) => {
    const facts = valueOf(it.server.config);
    const [healthy] = facts?.upstreams?.asked ?? [];
    if (facts?.upstreams === undefined || healthy === undefined) {
      throw new Error("It has an upstream");
    }
    return server({
      config: known({ ...facts, upstreams: { ...facts.upstreams, ...change(healthy) } }),
    })(it);
  };
/** How it is with the upstream, and whether the view signs what it has. */
const upstream = (change: Partial<ViewUpstream>, signsUpstream = false): Change =>
  reading((healthy) => ({ signsUpstream, asked: [{ ...healthy, ...change }] }));
/** The upstream is that of a view behind. */
const behind = (change: Partial<ViewUpstream>, signsUpstream = false): Change =>
  reading((healthy) => ({
    upstreams: [],
    asked: [{ ...healthy, ...change }],
    reads: [
      { view: "main", isCommons: false, signsUpstream: false, upstreams: [] },
      { view: "common", isCommons: true, signsUpstream, upstreams: ["nixos"] },
    ],
  }));
const fault = (reason: string, secondsAgo = 60): Partial<ViewUpstream> => {
  return { lastFault: { reason, secondsAgo } };
};
const both =
  (...changes: readonly Change[]): Change =>
  (it) =>
    changes.reduce((snapshot, change) => change(snapshot), it);

function settingsOf(name: "settings" | "systemSettings"): NixSettings {
  const found = valueOf(HEALTHY.nix[name]);
  if (found === undefined) throw new Error("A healthy machine has settings");
  return found;
}

test("a healthy machine has nothing to complain of", () => {
  const findings = examine(HEALTHY);
  expect(findings.filter(({ severity }) => severity !== "ok")).toEqual([
    { check: "memory", severity: "skipped", message: "Nix remembers nothing" },
  ]);
});

const PASSWORD = "2hunter2hunter2";
const memory = (remembered: unknown, absentPaths = 0): Change =>
  path({
    memory: known({
      file: "/home/ada/.cache/nix/binary-cache-v6.sqlite",
      absentPaths,
      path: remembered as undefined,
    }),
  });
const remember = (signatures: readonly string[], narHash = "a".repeat(64)): Change =>
  memory({ isPresent: true, atMs: NOW_MS, narHash: `sha256:${narHash}`, signatures });

const CASES: ReadonlyArray<readonly [check: string, Severity, says: RegExp, Change]> = [
  ["nix", "error", /does not run: nix cannot/, nix({ version: failed("nix cannot be run") })],
  ["nix", "error", /2\.3\.16 cannot read/, nix({ version: known("2.3.16") })],
  ["settings", "error", /unknown setting/, nix({ settings: failed("unknown setting") })],
  ["settings", "error", /substitute = false/, settings({ substitute: false })],
  ["trust", "error", /cannot open its store/, nix({ store: failed("no socket") })],
  ["trust", "ok", /trusts you/, daemon({ isTrusted: true })],
  ["trust", "ok", /trusts you/, daemon({}, { trustedUsers: ["root", "@wheel"] })],
  ["trust", "ok", /trusts you/, daemon({}, { trustedUsers: ["*"] })],
  ["trust", "warning", /does not trust you/, daemon({}, { trustedUsers: ["root", "@ops"] })],
  ["trust", "warning", /does not trust you/, daemon({ isTrusted: false }, { trustedUsers: ["*"] })],
  ["substituter", "error", /is not among/, settings({ substituters: [] })],
  [
    "substituter",
    "error",
    /same view at another/,
    settings({ substituters: ["http://cache:7480/main"] }),
  ],
  [
    "substituter",
    "ok",
    /./,
    settings({ substituters: ["https://cache.example.org:443/main/?priority=10"] }),
  ],
  ["substituter", "error", /daemon ignores/, daemon({ isTrusted: false })],
  [
    "substituter",
    "ok",
    /./,
    daemon({ isTrusted: false }, { trustedSubstituters: ["https://cache.example.org/main/"] }),
  ],
  ["upstreams", "ok", /falls back to nixos/, upstream({})],
  ["upstreams", "ok", /nixos/, upstream(fault("timeout", 7200))],
  ["upstreams", "warning", /nixos failed lately: timeout, 1 m/, upstream(fault("timeout"))],
  [
    "upstreams",
    "warning",
    /nixos is left alone since it failed: unreachable/,
    upstream({ state: "resting", ...fault("unreachable") }),
  ],
  ["upstreams", "warning", /nixos is left alone\n/, upstream({ state: "resting" })],
  ["upstreams", "warning", /not signed by the key/, upstream(fault("other-key"))],
  ["upstreams", "skipped", /no upstreams/, makePublic],
  ["upstreams", "ok", /main, then common \(the commons\): it falls back to nixos/, behind({})],
  ["upstreams", "warning", /nixos failed lately: timeout/, behind(fault("timeout"))],
  ["upstream-keys", "error", /no key of nixos/, behind({ publicKeys: [OTHER_PUBLIC_KEY] })],
  ["upstream-keys", "ok", /own key signs/, behind({ publicKeys: [OTHER_PUBLIC_KEY] }, true)],
  ["upstream-keys", "error", /no key of nixos/, upstream({ publicKeys: [OTHER_PUBLIC_KEY] })],
  ["upstream-keys", "ok", /own key signs/, upstream({ publicKeys: [OTHER_PUBLIC_KEY] }, true)],
  ["upstream-keys", "ok", /are trusted/, upstream({ publicKeys: [OTHER_PUBLIC_KEY, PUBLIC_KEY] })],
  [
    "one-substituter",
    "warning",
    /asks https:\/\/nixos\.example\.org as well/,
    settings({
      substituters: ["https://cache.example.org/main", "https://nixos.example.org?priority=1"],
    }),
  ],
  ["public-key", "error", /main-1 is not in/, settings({ trustedPublicKeys: [] })],
  [
    "public-key",
    "warning",
    /newest key main-1 is not trusted, but main-1 is/,
    server({
      config: known({
        kind: "flywheel",
        config: { publicKey: OTHER_PUBLIC_KEY, isPublic: false },
        upstreams: undefined,
      }),
    }),
  ],
  [
    "public-key",
    "error",
    /another value.*replaced/s,
    settings({ trustedPublicKeys: [OTHER_PUBLIC_KEY] }),
  ],
  [
    "public-key",
    "error",
    /takes the first/,
    settings({ trustedPublicKeys: [OTHER_PUBLIC_KEY, PUBLIC_KEY] }),
  ],
  ["public-key", "ok", /./, settings({ trustedPublicKeys: [PUBLIC_KEY, OTHER_PUBLIC_KEY] })],
  ["public-key", "error", /daemon ignores your trust/, daemon({ isTrusted: false })],
  ["public-key", "skipped", /401/, server({ config: failed("answered 401") })],
  ["require-sigs", "warning", /not required/, settings({ requireSignatures: false })],
  [
    "netrc-file",
    "error",
    /no netrc file/,
    netrc({ mode: undefined, entries: notTried("/n does not exist") }),
  ],
  [
    "netrc-file",
    "ok",
    /public/,
    both(makePublic, netrc({ mode: undefined, entries: notTried("/n does not exist") })),
  ],
  ["netrc-file", "error", /may not read.*sudo chown/s, netrc({ entries: failed("/n: EACCES") })],
  [
    "netrc-file",
    "ok",
    /root's alone/,
    both(daemon({ isTrusted: true }), netrc({ entries: failed("/n: EACCES") })),
  ],
  ["netrc-file", "warning", /other users.*chmod/s, netrc({ mode: 0o644 })],
  [
    "netrc-entry",
    "error",
    /no entry for cache\.example\.org.*for other/s,
    netrc({ entries: known([{ host: "other", password: PASSWORD, line: 1 }]) }),
  ],
  [
    "netrc-entry",
    "error",
    /without ports/,
    netrc({ entries: known([{ host: "cache.example.org:443", password: PASSWORD, line: 4 }]) }),
  ],
  [
    "netrc-entry",
    "error",
    /no password/,
    netrc({ entries: known([{ host: "cache.example.org", password: undefined, line: 1 }]) }),
  ],
  [
    "netrc-entry",
    "warning",
    /several tokens.*line 1/s,
    netrc({
      entries: known([
        { host: "CACHE.example.org", password: PASSWORD, line: 1 },
        { host: "cache.example.org", password: `${PASSWORD}-of-another`, line: 4 },
      ]),
    }),
  ],
  [
    "netrc-entry",
    "ok",
    /any host/,
    netrc({ entries: known([{ host: undefined, password: PASSWORD, line: 1 }]) }),
  ],
  ["token", "warning", /no JSON Web Token/, token(PASSWORD)],
  [
    "token",
    "error",
    /expired at 2026-06-01T11:59/,
    token(await tokenOf({ expiresAtMs: NOW_MS - 1000 })),
  ],
  [
    "token",
    "error",
    /expired.*server's is ahead/s,
    both(
      token(await tokenOf({ expiresAtMs: NOW_MS + 60_000 })),
      answer({ dateMs: NOW_MS + DAY_MS }),
    ),
  ],
  [
    "token",
    "error",
    /not valid before.*timedatectl/s,
    both(
      token(await tokenOf({ notBeforeMs: NOW_MS - 60_000 })),
      answer({ dateMs: NOW_MS - DAY_MS }),
    ),
  ],
  [
    "token",
    "error",
    /no pull permission on main.*for other-\*/s,
    token(await tokenOf({ caches: [["other-*", new Set(["pull"])]] })),
  ],
  ["token", "error", /no pull/, token(await tokenOf({ caches: [["main", new Set(["push"])]] }))],
  ["token", "warning", /expires soon/, token(await tokenOf({ expiresAtMs: NOW_MS + DAY_MS / 2 }))],
  ["name", "error", /cache\.example\.org is not found/, network({ lookup: failed("unknown") })],
  [
    "connection",
    "error",
    /cannot be connected to: reset/,
    network({ connection: failed("reset") }),
  ],
  ["tls", "error", /no trusted TLS/, network({ tls: failed("the certificate has expired") })],
  [
    "tls",
    "warning",
    /ends at 2026-06-02/,
    network({ tls: known({ protocol: "", validToMs: NOW_MS + DAY_MS, caFile: undefined }) }),
  ],
  [
    "proxy",
    "error",
    /does not answer.*https_proxy/s,
    network({ proxy: { variable: "https_proxy", url: "http://p:1", answer: failed("refused") } }),
  ],
  [
    "proxy",
    "error",
    /407/,
    network({ proxy: { variable: "https_proxy", url: "http://p:1", answer: known(407) } }),
  ],
  [
    "proxy",
    "warning",
    /goes through/,
    network({ proxy: { variable: "https_proxy", url: "http://p:1", answer: known(200) } }),
  ],
  ["access", "error", /does not answer: silent/, server({ cacheInfo: failed("silent") })],
  [
    "access",
    "error",
    /refuses Nix's token \(401\).*has been revoked/s,
    answer({ status: 401, body: '{"message":"The token has been revoked"}' }),
  ],
  [
    "access",
    "error",
    /sends none \(401\)/,
    both(netrc({ entries: known([]) }), answer({ status: 401 })),
  ],
  ["access", "error", /not for pulling from main \(403\)/, answer({ status: 403 })],
  ["access", "error", /no view main on the server \(404\)/, answer({ status: 404 })],
  ["access", "error", /answers 502/, answer({ status: 502, body: "<html>" })],
  [
    "access",
    "skipped",
    /only root/,
    both(answer({ status: 401 }), server({ askedAs: "user" }), answer({ status: 401 })),
  ],
  ["clock", "warning", /2 h ahead of/, answer({ dateMs: NOW_MS + 7_200_000 })],
  ["clock", "warning", /2 h behind/, answer({ dateMs: NOW_MS - 7_200_000 })],
  ["clock", "skipped", /does not tell/, answer({ dateMs: undefined })],
  [
    "health",
    "error",
    /not ready \(503\).*store: the disk is full/s,
    server({
      readiness: known({
        status: 503,
        body: '{"store":"the disk is full","index":"ok"}',
        dateMs: undefined,
        atMs: NOW_MS,
      }),
    }),
  ],
  ["store-dir", "error", /for stores in \/opt\/store/, answer({ body: "StoreDir: /opt/store\n" })],
  ["store-dir", "error", /makes no sense/, answer({ body: "StoreDir: nowhere\n" })],
  [
    "priority",
    "ok",
    /asked 2\. of 2.*after https:\/\/a \(40\)/,
    server({
      priorities: new Map([
        ["https://cache.example.org/main", known(41)],
        ["https://a", known(40)],
      ]),
    }),
  ],
  [
    "priority",
    "warning",
    /no answer from https:\/\/a/,
    server({
      priorities: new Map([
        ["https://cache.example.org/main", known(41)],
        ["https://a", failed("silent")],
      ]),
    }),
  ],
  ["narinfo", "error", /does not have/, path({ narInfo: failed("the view does not have it") })],
  ["signature", "error", /no trusted key has signed/, settings({ trustedPublicKeys: [] })],
  [
    "signature",
    "warning",
    /no signature at all/,
    both(
      settings({ requireSignatures: false }),
      path({ narInfo: known({ ...NAR_INFO, signatures: [] }) }),
    ),
  ],
  [
    "nar",
    "error",
    /answered with 404.*There is no nar/s,
    nar({ status: 404, refusal: "There is no nar" }),
  ],
  ["nar", "error", /damaged.*broke off/s, nar({ transferProblem: "reset" })],
  ["nar", "error", /damaged.*91 bytes came/s, nar({ fileSize: 91 })],
  ["nar", "error", /damaged.*Its hash/s, nar({ fileHash: "c".repeat(64) })],
  ["nar", "error", /damaged.*decompress/s, nar({ contents: { problem: "bad magic" } })],
  [
    "nar",
    "error",
    /damaged.*Decompressed it is 120/s,
    nar({ contents: { narSize: 120, narHash: "c".repeat(64) } }),
  ],
  ["nar", "ok", /90 bytes came as/, nar({ contents: undefined })],
  [
    "memory",
    "error",
    /absent for another 30 m/,
    memory({ isPresent: false, atMs: NOW_MS - 1_800_000 }, 1),
  ],
  [
    "memory",
    "warning",
    /absent for another/,
    both(path({ isNamed: false }), (it) => memory({ isPresent: false, atMs: NOW_MS }, 1)(it)),
  ],
  ["memory", "warning", /takes 3 paths as absent/, memory(undefined, 3)],
  ["memory", "error", /lacks the signature.*nix copy/s, remember([])],
  ["memory", "error", /NAR hash is another/, remember([], "c".repeat(64))],
  ["memory", "ok", /./, remember(NAR_INFO.signatures)],
  [
    "nix-verify",
    "error",
    /does not take.*HTTP error 401/s,
    path({ verify: known({ exitCode: 4, said: "HTTP error 401" }) }),
  ],
];

describe.each(CASES)("%s: %s %s", (check, severity, says, change) => {
  test("is found, with its cause, and with a remedy that names a command", () => {
    const finding = examine(change(HEALTHY)).find((it) => it.check === check);
    expect(finding?.severity).toBe(severity);
    expect(`${finding?.message}\n${finding?.cause}\n${finding?.remedy}`).toMatch(says);
    if (severity !== "error" && severity !== "warning") return;
    expect(finding?.cause).toMatch(/\S\.$/);
    expect(finding?.remedy).toMatch(/^(sudo |[a-z][\w-]*[ =]|NIX_CONFIG=)/);
  });

  test("says no secret", () => {
    const said = JSON.stringify(examine(change(HEALTHY)));
    for (const { password } of valueOf(change(HEALTHY).netrc.entries) ?? []) {
      expect(said).not.toContain(password ?? "no password at all");
    }
  });
});

test("every check has a case in which it finds something", () => {
  const found = new Set(
    CASES.filter(([, severity]) => severity === "error" || severity === "warning").map(
      ([check]) => check,
    ),
  );
  expect(CHECKS.map(([name]) => name).filter((name) => !found.has(name))).toEqual([]);
});

test("what cannot be told is skipped with its reason, never guessed", () => {
  const missing = notTried("Nix is not there to be asked");
  const blind = both(
    nix({ version: failed("none"), settings: missing, systemSettings: missing, store: missing }),
    netrc({ path: undefined, mode: undefined, entries: missing }),
    network({ lookup: failed("unknown"), connection: missing, tls: missing }),
    server({ cacheInfo: missing, config: missing, readiness: missing, priorities: new Map() }),
    path({ storePath: missing, narInfo: missing, nar: missing, memory: missing, verify: missing }),
  )(HEALTHY);
  const findings = examine(blind);
  expect(findings.filter(({ severity }) => severity === "error").map(({ check }) => check)).toEqual(
    ["nix", "name"],
  );
  expect(findings.find(({ check }) => check === "proxy")?.severity).toBe("ok");
});
