import { describe, expect, test } from "vitest";

import type { Severity } from "../doctor/finding.ts";
import { failed, known, notTried } from "../doctor/probe.ts";
import { CHECKS, examine } from "./all-checks.ts";
import {
  HEALTHY,
  HTTP,
  NOW_MS,
  OLD,
  OVER_HTTP,
  rcOf,
  tokenOf,
} from "./fixtures/healthy-snapshot.ts";
import type { CapabilityFacts, Snapshot } from "./snapshot.ts";

const DAY_MS = 24 * 3600 * 1000;
const SEVEN = { major: 7, minor: 7 };
const FOUR = { major: 4, minor: 2 };

type Part = Partial<Snapshot>;

const later = (line: string, base: Snapshot = HEALTHY): Snapshot => ({
  ...base,
  rc: rcOf(base === OLD ? FOUR : SEVEN, {
    later: `${line}\n`,
    ...(base === OVER_HTTP ? { remoteCache: HTTP } : {}),
  }),
});
const bearer = async (claims: Parameters<typeof tokenOf>[0]): Promise<Part> => ({
  credential: { kind: "helper", command: "/h", header: known(`Bearer ${await tokenOf(claims)}`) },
});
const capabilities = (change: Partial<CapabilityFacts>): Part => ({
  faces: {
    ...HEALTHY.faces,
    grpc: known({
      status: 0,
      message: "",
      capabilities: { hasSha256: true, hasZstd: true, mayUpdate: true, ...change },
    }),
  },
});
const grpc = (status: number): Part => ({
  faces: {
    ...HEALTHY.faces,
    grpc: known({ status, message: "what it says", capabilities: undefined }),
  },
});
const http = (status: number, body = ""): Part => ({
  faces: {
    ...OVER_HTTP.faces,
    http: known({ status, body, dateMs: NOW_MS, atMs: NOW_MS }),
  },
});
const on = (base: Snapshot, part: Part): Snapshot => ({ ...base, ...part });
const anonymous: Part = {
  credential: { kind: "helper", command: "/h", header: known(undefined) },
};

type Broken = readonly [
  what: string,
  check: string,
  severity: Severity,
  message: RegExp,
  snapshot: Snapshot,
];

const BROKEN: readonly Broken[] = [
  [
    "no Bazel",
    "bazel",
    "error",
    /does not tell its version: no such command/,
    on(HEALTHY, { bazel: { command: "bazel", release: failed("no such command") } }),
  ],
  [
    "a Bazel that is too old",
    "bazel",
    "error",
    /^Bazel 3\.7 is older than Bazel 4$/,
    on(HEALTHY, {
      bazel: { command: "bazel", release: failed("Bazel 3.7 is older than Bazel 4") },
    }),
  ],
  [
    "an rc file that nothing brings in",
    "import",
    "error",
    /no file of Bazel's brings/,
    on(HEALTHY, {
      rc: { ...HEALTHY.rc, isImported: false, reading: { ...HEALTHY.rc.reading, options: [] } },
    }),
  ],
  [
    "an rc file that is gone",
    "import",
    "error",
    /bazelrc is missing/,
    on(HEALTHY, {
      rc: { ...HEALTHY.rc, ownRc: undefined, reading: { ...HEALTHY.rc.reading, options: [] } },
    }),
  ],
  [
    "an import of nothing",
    "import",
    "error",
    /\.bazelrc line 3 imports x/,
    on(HEALTHY, {
      rc: {
        ...HEALTHY.rc,
        reading: { ...HEALTHY.rc.reading, problem: ".bazelrc line 3 imports x" },
      },
    }),
  ],
  [
    "an rc file of another release",
    "rc-file",
    "warning",
    /not what `flywheel use bazel` would write now/,
    on(HEALTHY, { rc: { ...HEALTHY.rc, ownRc: OLD.rc.ownRc } }),
  ],
  [
    "options that this release does not know",
    "rc-file",
    "error",
    /Bazel 4 does not know: .*--credential_helper/,
    on(OLD, { rc: { ...OLD.rc, ownRc: HEALTHY.rc.ownRc } }),
  ],
  [
    "a cache switched off",
    "remote-cache",
    "error",
    /line 1 switches the cache off/,
    later("build --remote_cache="),
  ],
  [
    "another cache, its password unsaid",
    "remote-cache",
    "error",
    /names another cache: https:\/\/other\.example\.org\/x$/,
    later("build --remote_cache=https://me:secret@other.example.org/x"),
  ],
  [
    "a password in an address of gRPC",
    "remote-cache",
    "error",
    /has a name and a password in an address of gRPC/,
    later("build --remote_cache grpc://me:secret@cache.example.org"),
  ],
  [
    "another view",
    "remote-cache",
    "error",
    /names another view: --remote_instance_name=other/,
    later("build --remote_instance_name=other"),
  ],
  [
    "results that are not taken",
    "options",
    "error",
    /takes no results from the cache/,
    later("build --noremote_accept_cached"),
  ],
  [
    "no way back for an old Bazel",
    "options",
    "error",
    /takes --remote_local_fallback back/,
    later("build --noremote_local_fallback", OLD),
  ],
  [
    "no way back for a newer one",
    "options",
    "warning",
    /takes --remote_local_fallback back/,
    later("build --remote_local_fallback=0"),
  ],
  [
    "a token among the options",
    "options",
    "warning",
    /line 1 has a token in it/,
    later("build --remote_header=Authorization=Bearer\\ x"),
  ],
  [
    "a time limit changed by a later line",
    "options",
    "warning",
    /--remote_timeout=5s \(\/home\/ada\/\.bazelrc line 1\)/,
    later("build --remote_timeout=5s"),
  ],
  [
    "a helper that fails",
    "credential",
    "error",
    /credential helper \/h fails: it ended with 1/,
    on(HEALTHY, {
      credential: { kind: "helper", command: "/h", header: failed("it ended with 1") },
    }),
  ],
  [
    "a helper that gives nothing",
    "credential",
    "error",
    /gives no token for cache\.example\.org/,
    on(HEALTHY, anonymous),
  ],
  [
    "no netrc file",
    "credential",
    "error",
    /finds no token for cache\.example\.org/,
    on(OLD, {
      credential: {
        kind: "netrc",
        host: "cache.example.org",
        netrc: {
          path: "/n",
          mode: undefined,
          ownerId: undefined,
          entries: notTried("/n does not exist"),
        },
      },
    }),
  ],
  [
    "a netrc file that is open to others",
    "credential",
    "warning",
    /other users of this machine can read the tokens/,
    on(OLD, {
      credential:
        OLD.credential.kind === "netrc"
          ? { ...OLD.credential, netrc: { ...OLD.credential.netrc, mode: 0o644 } }
          : OLD.credential,
    }),
  ],
  [
    "a token that has expired",
    "token",
    "error",
    /Bazel's token expired at 2026-05/,
    on(HEALTHY, await bearer({ expiresAtMs: NOW_MS - DAY_MS })),
  ],
  [
    "a token near its end",
    "token",
    "warning",
    /expires soon/,
    on(HEALTHY, await bearer({ expiresAtMs: NOW_MS + DAY_MS / 2 })),
  ],
  [
    "a token of another view",
    "token",
    "error",
    /gives no pull permission on main/,
    on(HEALTHY, await bearer({ caches: [["other", new Set(["pull"])]] })),
  ],
  [
    "an unknown host",
    "name",
    "error",
    /cache\.example\.org is not found/,
    on(HEALTHY, { network: { ...HEALTHY.network, lookup: failed("the host name is unknown") } }),
  ],
  [
    "nobody who listens",
    "connection",
    "error",
    /cannot be connected to/,
    on(HEALTHY, { network: { ...HEALTHY.network, connection: failed("nothing listens there") } }),
  ],
  [
    "a certificate that is not trusted",
    "tls",
    "error",
    /no trusted TLS connection/,
    on(HEALTHY, { network: { ...HEALTHY.network, tls: failed("it is signed by itself") } }),
  ],
  [
    "a clock that is wrong",
    "clock",
    "warning",
    /2 h ahead/,
    on(HEALTHY, {
      faces: {
        ...HEALTHY.faces,
        http: known({ status: 404, body: "", dateMs: NOW_MS + 7_200_000, atMs: NOW_MS }),
      },
    }),
  ],
  [
    "a proxy that lets no gRPC through",
    "grpc",
    "error",
    /does not answer over gRPC/,
    on(HEALTHY, { faces: { ...HEALTHY.faces, grpc: failed("the connection was reset") } }),
  ],
  ["UNAUTHENTICATED", "grpc", "error", /refuses Bazel's token/, on(HEALTHY, grpc(16))],
  [
    "UNAUTHENTICATED without a token",
    "grpc",
    "error",
    /wants a token, and Bazel sends none/,
    on(HEALTHY, { ...grpc(16), ...anonymous }),
  ],
  ["PERMISSION_DENIED", "grpc", "error", /good, but not for main/, on(HEALTHY, grpc(7))],
  ["NOT_FOUND", "grpc", "error", /there is no view main/, on(HEALTHY, grpc(5))],
  ["UNIMPLEMENTED", "grpc", "error", /is no Bazel cache/, on(HEALTHY, grpc(12))],
  ["INTERNAL", "grpc", "error", /answers status 13/, on(HEALTHY, grpc(13))],
  ["401 over HTTP", "http", "error", /refuses Bazel's token \(401\)/, on(OVER_HTTP, http(401))],
  ["403 over HTTP", "http", "error", /good, but not for main/, on(OVER_HTTP, http(403))],
  [
    "404 over HTTP for the view",
    "http",
    "error",
    /there is no view main/,
    on(OVER_HTTP, http(404, `{"message":"There is no cache main"}`)),
  ],
  ["500 over HTTP", "http", "error", /answers 500/, on(OVER_HTTP, http(500))],
  [
    "no SHA-256",
    "capabilities",
    "error",
    /knows no SHA-256/,
    on(HEALTHY, capabilities({ hasSha256: false })),
  ],
  [
    "no zstd where it is wanted",
    "capabilities",
    "error",
    /knows no zstd/,
    on(HEALTHY, capabilities({ hasZstd: false })),
  ],
  [
    "a limit that is reached",
    "capabilities",
    "warning",
    /takes no results now/,
    on(HEALTHY, capabilities({ mayUpdate: false })),
  ],
  [
    "a token that may not push, with an rc file that does",
    "capabilities",
    "warning",
    /gives no push permission/,
    on(HEALTHY, {
      ...capabilities({ mayUpdate: false }),
      ...(await bearer({ caches: [["main", new Set(["pull"])]] })),
    }),
  ],
  [
    "an old Bazel that may not push, with an rc file that does",
    "capabilities",
    "error",
    /gives no push permission/,
    on(OLD, {
      ...capabilities({ mayUpdate: false }),
      ...(await bearer({ caches: [["main", new Set(["pull"])]] })),
    }),
  ],
  [
    "a miss that is an error",
    "miss",
    "error",
    /is no miss: status 13/,
    on(HEALTHY, { trip: { ...HEALTHY.trip, miss: failed("status 13") } }),
  ],
  [
    "a blob that is lost",
    "blob",
    "error",
    /it was taken, and is not there/,
    on(HEALTHY, { trip: { ...HEALTHY.trip, blob: failed("it was taken, and is not there") } }),
  ],
  [
    "a result that is lost",
    "action-result",
    "error",
    /it came back as another/,
    on(HEALTHY, { trip: { ...HEALTHY.trip, actionResult: failed("it came back as another") } }),
  ],
  [
    "a time limit that is long",
    "timeout",
    "warning",
    /holds a build up for 120 s: 60 s, 2 times/,
    later("build --remote_timeout=1m"),
  ],
  [
    "HTTP, where one time limit cannot serve all",
    "timeout",
    "warning",
    /one time limit cannot serve all/,
    OVER_HTTP,
  ],
];

test.for([
  ["a new Bazel", HEALTHY],
  ["an old Bazel", OLD],
] as const)("a healthy machine with %s has nothing to say about", ([, snapshot]) => {
  expect(examine(snapshot).filter(({ severity }) => severity !== "ok")).toEqual([]);
});

describe("what is broken is named, with cause and remedy", () => {
  test.for(BROKEN)("%s", async ([, check, severity, message, snapshot]) => {
    const findings = examine(snapshot);
    const finding = findings.find((it) => it.check === check);
    expect(finding).toMatchObject({ severity, message: expect.stringMatching(message) });
    expect(finding?.cause).toMatch(/\S/);
    expect(finding?.remedy).toMatch(/\S/);
    // Whatever is wrong, no token shows.
    expect(JSON.stringify(findings)).not.toMatch(/eyJ|secret/);
  });
});

test("every check that can fail has a broken machine", () => {
  const covered = new Set(BROKEN.map(([, check]) => check));
  const never = CHECKS.map(([name]) => name).filter((name) => !covered.has(name));
  expect(never).toEqual(["outage"]);
});

test.for([
  ["7, gRPC", HEALTHY, /goes on without the cache after 20 s, and stops asking/],
  ["7, HTTP", OVER_HTTP, /each request waits 20 s/],
  ["4, gRPC", OLD, /at once; .*after 20 s \(this Bazel has no circuit breaker\)/],
  ["4 without fallback", later("build --noremote_local_fallback", OLD), /ends with 34/],
  [
    "a release that was not tried",
    on(HEALTHY, { bazel: { command: "bazel", release: known({ major: 9, minor: 1 }) } }),
    /other releases than 4\.2 and 7\.7 were not tried/,
  ],
] as const)("Bazel %s: it is said what comes when the cache is down", ([, snapshot, said]) => {
  const finding = examine(snapshot).find(({ check }) => check === "outage");
  expect(finding).toMatchObject({ severity: "ok", message: expect.stringMatching(said) });
});

test("the protocol that Bazel does not use keeps it from nothing", () => {
  const findings = examine(on(HEALTHY, { faces: { ...HEALTHY.faces, http: failed("x") } }));
  expect(findings.find(({ check }) => check === "http")).toMatchObject({ severity: "skipped" });
});

test("remedies name the instance and the protocol that were chosen", () => {
  const snapshot: Snapshot = {
    ...OVER_HTTP,
    target: {
      ...OVER_HTTP.target,
      remoteCache: `${HTTP}/a/b`,
      instanceName: "main/a/b",
      serverFlag: " --server https://cache.example.org",
    },
    rc: { ...OVER_HTTP.rc, isImported: false, reading: { ...HEALTHY.rc.reading, options: [] } },
  };
  expect(examine(snapshot).find(({ check }) => check === "import")?.remedy).toBe(
    "flywheel use bazel main --instance a/b --http --server https://cache.example.org",
  );
});

test("remedies keep what was chosen: to read only, and to send blobs as they are", () => {
  const target = { ...HEALTHY.target, isReadOnly: true, isUncompressed: true };
  const rc = { ...HEALTHY.rc, ownRc: OLD.rc.ownRc };
  expect(
    examine(on(HEALTHY, { target, rc })).find(({ check }) => check === "rc-file")?.remedy,
  ).toBe("flywheel use bazel main --read-only --uncompressed");
});
