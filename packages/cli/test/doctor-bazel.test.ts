import { randomUUID } from "node:crypto";
import { appendFile, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, request, type Server } from "node:http";
import { type AddressInfo, createServer as createTcpServer } from "node:net";
import path from "node:path";
import { fileURLToPath } from "node:url";

import {
  type CommandResult,
  createBazelWorkspace,
  createTemporaryDirectory,
  describeEachBazel,
  enterDebianRoot,
  type RunningFlywheel,
  runCommand,
  startFlywheel,
} from "@glorious/testkit";
import { signToken, type TokenClaims } from "@glorious/trust";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const MAIN = fileURLToPath(new URL("../src/main.ts", import.meta.url));
const PAGE = new URL("../../../docs/how-to/doctor-bazel.md", import.meta.url);
const SEVEN = ["--bazel-version", "7.7.1"];
const FOUR = ["--bazel-version", "4.2.3"];

interface Finding {
  readonly check: string;
  readonly severity: string;
  readonly message: string;
  readonly cause?: string;
  readonly remedy?: string;
}

interface Report {
  readonly status: number;
  readonly find: (check: string) => Finding | undefined;
}

/** A home and a workspace of their own, and a server. */
interface Machine extends AsyncDisposable {
  readonly server: RunningFlywheel;
  readonly home: string;
  readonly workspace: string;
  /** The rc file that Bazel reads by itself. */
  readonly userRc: string;
  readonly ownRc: string;
  /** What a good token of this server says, changed as given. */
  sign(claims?: Partial<TokenClaims>): Promise<string>;
  /** Runs `flywheel use bazel`, with a good token unless another is given. */
  use(words?: readonly string[], token?: string): Promise<void>;
  doctor(words?: readonly string[], env?: Readonly<Record<string, string>>): Promise<Report>;
  run(words: readonly string[], env?: Readonly<Record<string, string>>): Promise<CommandResult>;
}

async function createMachine(server: RunningFlywheel): Promise<Machine> {
  await using resources = new AsyncDisposableStack();
  const base = resources.use(await createTemporaryDirectory("flywheel-doctor-")).path;
  const home = path.join(base, "home");
  const workspace = path.join(base, "workspace");
  await mkdir(home);
  await mkdir(workspace);
  await writeFile(path.join(workspace, "MODULE.bazel"), "");
  const secret = await readFile(path.join(server.dataDirectory, "token.key"), "utf8");
  const key = { algorithm: "HS256", secret: Buffer.from(secret.trim(), "base64") } as const;
  const env = { PATH: process.env["PATH"], HOME: home };
  const target = ["--server", server.url, "--view", "main"];
  const machine: Omit<Machine, typeof Symbol.asyncDispose> = {
    server,
    home,
    workspace,
    userRc: path.join(home, ".bazelrc"),
    ownRc: path.join(home, ".config", "flywheel", "bazel", "bazelrc"),
    sign: (claims = {}) =>
      signToken(key, {
        caches: [["main", new Set(["pull", "push"])]],
        isAdmin: false,
        jti: randomUUID(),
        expiresAtMs: Date.now() + 3 * 24 * 3600 * 1000,
        ...claims,
      }),
    async use(words = SEVEN, token) {
      const FLYWHEEL_TOKEN = token ?? (await machine.sign());
      const used = await machine.run(["use", "bazel", ...target, ...words], { FLYWHEEL_TOKEN });
      expect(used.status, used.stderr).toBe(0);
    },
    async doctor(words = SEVEN, more = {}) {
      const { status, stdout, stderr } = await machine.run(
        ["doctor", "bazel", "--json", "--timeout", "1500ms", ...target, ...words],
        { FLYWHEEL_TOKEN: await server.readToken(), ...more },
      );
      // Whatever is wrong, no token shows.
      expect(stdout + stderr).not.toMatch(/eyJ[\w-]{20}/);
      const report = JSON.parse(stdout === "" ? "{}" : stdout) as { findings?: Finding[] };
      const findings = report.findings ?? [];
      expect({ stderr, count: findings.length }).toMatchObject({ count: 19 });
      return { status, find: (check) => findings.find((it) => it.check === check) };
    },
    run: (words, more = {}) =>
      runCommand(process.execPath, ["--conditions=source", MAIN, ...words], {
        env: { ...env, ...more },
        cwd: workspace,
      }),
  };
  const owned = resources.move();
  return { ...machine, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

type Listening = { readonly url: string } & AsyncDisposable;

async function listen(server: Server | ReturnType<typeof createTcpServer>): Promise<Listening> {
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `127.0.0.1:${port}`,
    async [Symbol.asyncDispose]() {
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** What stands before a server, speaks HTTP/1.1 only, and changes its answers. */
function startProxy(
  target: string,
  change: {
    readonly headers?: Readonly<Record<string, string>>;
    readonly body?: (bytes: Buffer, url: string) => Buffer;
  } = {},
): Promise<Listening> {
  const { headers = {}, body = (bytes: Buffer) => bytes } = change;
  const server = createServer((incoming, outgoing) => {
    const forwarded = request(
      new URL(incoming.url ?? "/", target),
      { method: incoming.method, headers: incoming.headers },
      (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("end", () => {
          outgoing.sendDate = false;
          outgoing.writeHead(response.statusCode ?? 500, { ...response.headers, ...headers });
          outgoing.end(body(Buffer.concat(chunks), incoming.url ?? ""));
        });
      },
    );
    incoming.pipe(forwarded);
  });
  return listen(server);
}

/** Another host and port in the place of the server's, in our own rc file. */
async function redirect({ ownRc, server }: Machine, host: string): Promise<void> {
  const text = await readFile(ownRc, "utf8");
  await writeFile(ownRc, text.replaceAll(new URL(server.url).host, host));
}

describeEachBazel("a machine that is well", (bazel) => {
  test("has nothing wrong, and exit code 0", async () => {
    await using server = await startFlywheel();
    await using machine = await createMachine(server);
    await using workspace = await createBazelWorkspace(bazel);
    // A command as a user has it: the very Bazel, which tells its version.
    const { command, args } = enterDebianRoot(bazel.root, "bazel", []);
    const quoted = [command, ...args].map((word) => `'${word.replaceAll("'", `'\\''`)}'`);
    const program = path.join(machine.home, "bazel");
    const exports = Object.entries(workspace.env).map(([name, text]) => `export ${name}='${text}'`);
    const script = ["#!/bin/sh", ...exports, `exec ${quoted.join(" ")} "$@"`, ""].join("\n");
    await writeFile(program, script, { mode: 0o755 });

    // Debian's build of Bazel 4 does not know its own version.
    const tells = !bazel.version.startsWith("4.");
    const words = tells ? ["--bazel", program] : ["--bazel-version", bazel.version];
    await machine.use(words);
    if (!tells) {
      const unknown = (await machine.doctor(["--bazel", program])).find("bazel");
      expect(unknown?.message).toMatch(/does not say which Bazel it is$/);
      expect(unknown?.remedy).toContain("--bazel-version");
    }
    const found = await machine.doctor(words);
    expect(found.find("bazel")?.message).toBe(
      `Bazel ${bazel.version.split(".").slice(0, 2).join(".")}`,
    );
    for (const check of ["import", "rc-file", "remote-cache", "options", "credential", "token"]) {
      expect(found.find(check)).toMatchObject({ severity: "ok" });
    }
    for (const check of ["grpc", "capabilities", "miss", "blob", "action-result", "outage"]) {
      expect(found.find(check)).toMatchObject({ severity: "ok" });
    }
    expect(found.status).toBe(0);

    await machine.use([...words, "--http", "--instance", "linux/release"]);
    const overHttp = await machine.doctor(words);
    for (const check of ["rc-file", "remote-cache", "http", "miss", "blob", "action-result"]) {
      expect(overHttp.find(check)).toMatchObject({ severity: "ok" });
    }
    expect(overHttp.find("timeout")).toMatchObject({ severity: "warning" });
    expect(overHttp.status).toBe(0);
  });
});

test("for people it is a list, and what comes of it", async () => {
  await using server = await startFlywheel();
  await using machine = await createMachine(server);
  await machine.use();
  const words = ["doctor", "bazel", "--server", server.url, "--view", "main", ...SEVEN];
  const text = await machine.run(words);
  expect(text.stdout).toMatch(/^ok +bazel +Bazel 7\.7$/m);
  expect(text.stderr).toContain(`Bazel uses grpc://${new URL(server.url).host}.`);
  expect(text.status).toBe(0);
});

test("what may only read writes nothing", async () => {
  await using server = await startFlywheel();
  await using machine = await createMachine(server);
  await machine.use(SEVEN, await machine.sign({ caches: [["main", new Set(["pull"])]] }));
  const found = await machine.doctor();
  expect(found.find("capabilities")).toMatchObject({ severity: "ok" });
  for (const check of ["blob", "action-result"]) {
    expect(found.find(check)).toMatchObject({ severity: "skipped" });
  }
  expect(found.status).toBe(0);
});

test("not to say what to look at is misuse", async () => {
  const env = { PATH: process.env["PATH"], HOME: "/nonexistent" };
  for (const words of [[], ["--server", "http://127.0.0.1:9"], ["--bazel-version", "latest"]]) {
    const { status, stdout } = await runCommand(
      process.execPath,
      ["--conditions=source", MAIN, "doctor", "bazel", ...words],
      { env },
    );
    expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
  }
});

/** One way of breaking a machine. `says` is the finding with names and numbers of this run replaced. */
interface Broken {
  readonly what: string;
  readonly check: string;
  readonly says: string;
  readonly severity?: "error" | "warning";
  /** Default 1. */
  readonly exitCode?: number;
  readonly examine: (machine: Machine) => Promise<Report>;
}

const withLine =
  (line: string, words = SEVEN): Broken["examine"] =>
  async (machine) => {
    await machine.use(words);
    await appendFile(machine.userRc, `${line}\n`);
    return machine.doctor(words);
  };
const withToken =
  (claims: Partial<TokenClaims>, words = SEVEN): Broken["examine"] =>
  async (machine) => {
    await machine.use(words);
    // As if it had been good when it was given.
    const token = await machine.sign(claims);
    const isHelper = words === SEVEN;
    const file = isHelper
      ? path.join(path.dirname(machine.ownRc), "token")
      : path.join(machine.home, ".netrc");
    const text = await readFile(file, "utf8");
    await writeFile(file, text.replace(/eyJ\S+/, token));
    return machine.doctor(words);
  };
const DAY_MS = 24 * 3600 * 1000;

const BROKEN: readonly Broken[] = [
  {
    what: "Bazel is not installed",
    check: "bazel",
    says: "Bazel does not tell its version: /nonexistent/bazel cannot be run: there is no such command",
    async examine(machine) {
      await machine.use();
      return machine.doctor(["--bazel", "/nonexistent/bazel"]);
    },
  },
  {
    what: "Bazel is too old",
    check: "bazel",
    says: "Bazel 3.7.2 is older than Bazel 4",
    async examine(machine) {
      await machine.use();
      const program = path.join(machine.home, "old-bazel");
      await writeFile(program, "#!/bin/sh\necho bazel 3.7.2\n", { mode: 0o755 });
      return machine.doctor(["--bazel", program]);
    },
  },
  {
    what: "`flywheel use bazel` was never run",
    check: "import",
    says: "no file of Bazel's brings OWNRC in",
    examine: (machine) => machine.doctor(),
  },
  {
    what: "the rc file that it wrote is gone",
    check: "import",
    says: "OWNRC is missing, though a file of Bazel's brings it in",
    async examine(machine) {
      await machine.use();
      await rm(machine.ownRc);
      return machine.doctor();
    },
  },
  {
    what: "the workspace imports a file that is not there",
    check: "import",
    says: "WORKSPACE/.bazelrc line 1 imports %workspace%/tools/rc, which is not there or makes a circle",
    async examine(machine) {
      await machine.use();
      const rc = path.join(machine.workspace, ".bazelrc");
      await writeFile(rc, "import %workspace%/tools/rc\n");
      try {
        return await machine.doctor();
      } finally {
        await rm(rc);
      }
    },
  },
  {
    what: "the rc file is for a newer Bazel",
    check: "rc-file",
    says: "OWNRC has options that Bazel 4 does not know: --credential_helper=127.0.0.1=HELPER --remote_retry_max_delay=1s --experimental_circuit_breaker_strategy=failure --remote_cache_compression=true --experimental_remote_cache_eviction_retries=5",
    async examine(machine) {
      await machine.use();
      return machine.doctor(FOUR);
    },
  },
  {
    what: "the rc file is for an older Bazel",
    check: "rc-file",
    severity: "warning",
    exitCode: 0,
    says: "OWNRC is not what `flywheel use bazel` would write now",
    async examine(machine) {
      await machine.use(FOUR);
      return machine.doctor(SEVEN);
    },
  },
  {
    what: "a later line names another cache",
    check: "remote-cache",
    says: "USERRC line 4 names another cache: grpc://other.example.org",
    examine: withLine("build --remote_cache=grpc://other.example.org"),
  },
  {
    what: "a later line switches the cache off",
    check: "remote-cache",
    says: "USERRC line 4 switches the cache off: --remote_cache=",
    examine: withLine("build --remote_cache="),
  },
  {
    what: "the token stands in the address",
    check: "remote-cache",
    says: "USERRC line 4 has a name and a password in an address of gRPC",
    examine: withLine("build --remote_cache=grpc://me:sesame@127.0.0.1"),
  },
  {
    what: "a later line names another view",
    check: "remote-cache",
    says: "USERRC line 4 names another view: --remote_instance_name=other",
    examine: withLine("build --remote_instance_name other"),
  },
  {
    what: "a later line takes no results",
    check: "options",
    says: "USERRC line 4 takes no results from the cache: --noremote_accept_cached",
    examine: withLine("build --noremote_accept_cached"),
  },
  {
    what: "an old Bazel may not build by itself",
    check: "options",
    says: "USERRC line 4 takes --remote_local_fallback back",
    examine: withLine("build --noremote_local_fallback", FOUR),
  },
  {
    what: "a later line has a token in it",
    check: "options",
    severity: "warning",
    says: "USERRC line 4 has a token in it",
    examine: withLine("build --remote_header=Authorization=Bearer\\ nothing"),
  },
  {
    what: "a later line changes a time limit",
    check: "options",
    severity: "warning",
    exitCode: 0,
    says: "other lines change what our rc file says: --remote_timeout=5s (USERRC line 4)",
    examine: withLine("build --remote_timeout=5s"),
  },
  {
    what: "a silent server would hold builds up",
    check: "timeout",
    severity: "warning",
    exitCode: 0,
    says: "a silent server holds a build up for 120 s: 60 s, 2 times",
    examine: withLine("build --remote_timeout=60"),
  },
  {
    what: "Bazel speaks HTTP/1.1",
    check: "timeout",
    severity: "warning",
    exitCode: 0,
    says: "one time limit cannot serve all: 10 s, 2 times",
    async examine(machine) {
      await machine.use([...SEVEN, "--http"]);
      return machine.doctor();
    },
  },
  {
    what: "the credential helper is gone",
    check: "credential",
    says: "the credential helper HELPER fails: HELPER cannot be run: there is no such command",
    async examine(machine) {
      await machine.use();
      await rm(path.join(path.dirname(machine.ownRc), "credential-helper"));
      return machine.doctor();
    },
  },
  {
    what: "the token has expired",
    check: "credential",
    says: "the credential helper HELPER gives no token for SERVER",
    examine: withToken({ expiresAtMs: Date.now() - DAY_MS }),
  },
  {
    what: "the token in the netrc file has expired",
    check: "token",
    says: "Bazel's token expired at TIME",
    examine: withToken({ expiresAtMs: Date.now() - DAY_MS }, FOUR),
  },
  {
    what: "the netrc file is gone",
    check: "credential",
    says: "Bazel finds no token for 127.0.0.1",
    async examine(machine) {
      await machine.use(FOUR);
      await rm(path.join(machine.home, ".netrc"));
      return machine.doctor(FOUR);
    },
  },
  {
    what: "the token is near its end",
    check: "token",
    severity: "warning",
    exitCode: 0,
    says: "Bazel's token expires soon, at TIME",
    examine: withToken({ expiresAtMs: Date.now() + DAY_MS / 2 }),
  },
  {
    what: "the token is of another view",
    check: "token",
    says: "Bazel's token gives no pull permission on main",
    examine: withToken({ caches: [["other", new Set(["pull"])]] }),
  },
  {
    what: "the token may push but not pull",
    check: "grpc",
    says: "Bazel's token is good, but not for main (PERMISSION_DENIED)",
    examine: withToken({ caches: [["main", new Set(["push"])]] }),
  },
  {
    what: "the token was revoked",
    check: "grpc",
    says: "the server refuses Bazel's token (UNAUTHENTICATED)",
    async examine(machine) {
      await machine.use();
      const file = path.join(path.dirname(machine.ownRc), "token");
      const FLYWHEEL_TOKEN = await machine.server.readToken();
      const revoked = await machine.run(
        ["token", "revoke", "--server", machine.server.url, "--token-to-revoke", file],
        { FLYWHEEL_TOKEN },
      );
      expect(revoked).toMatchObject({ status: 0 });
      return machine.doctor();
    },
  },
  {
    what: "the token was revoked, over HTTP/1.1",
    check: "http",
    says: "the server refuses Bazel's token (401)",
    async examine(machine) {
      await machine.use([...SEVEN, "--http"]);
      const file = path.join(path.dirname(machine.ownRc), "token");
      await writeFile(file, `${(await readFile(file, "utf8")).trim().slice(0, -6)}AAAAAA\n`);
      return machine.doctor();
    },
  },
  {
    what: "there is no such view",
    check: "grpc",
    says: "there is no view main on the server (NOT_FOUND)",
    async examine(machine) {
      await machine.use(SEVEN, await machine.sign({ caches: [["*", new Set(["pull", "push"])]] }));
      const text = await readFile(machine.ownRc, "utf8");
      await writeFile(machine.ownRc, text.replace("instance_name=main", "instance_name=absent"));
      return machine.doctor();
    },
  },
  {
    what: "the token may only read, and the rc file writes",
    check: "capabilities",
    severity: "warning",
    exitCode: 0,
    says: "results may not be written: the token gives no push permission",
    examine: withToken({ caches: [["main", new Set(["pull"])]] }),
  },
  {
    what: "the host has no address",
    check: "name",
    says: "the host cache.invalid is not found: the host name is unknown",
    async examine(machine) {
      await machine.use();
      await redirect(machine, "cache.invalid");
      return machine.doctor();
    },
  },
  {
    what: "the server is down",
    check: "connection",
    says: "SERVER cannot be connected to: nothing listens there",
    async examine(machine) {
      await machine.use();
      const gone = await listen(createTcpServer());
      await gone[Symbol.asyncDispose]();
      await redirect(machine, gone.url);
      return machine.doctor();
    },
  },
  {
    what: "something accepts the connection and stays silent",
    check: "grpc",
    says: "the cache does not answer over gRPC: the server was silent for 1.5 s",
    async examine(machine) {
      await machine.use();
      await using silent = await listen(
        createTcpServer((socket) => void socket.on("error", () => {}).resume()),
      );
      await redirect(machine, silent.url);
      return await machine.doctor();
    },
  },
  {
    what: "a proxy lets no gRPC through",
    check: "grpc",
    says: "the cache does not answer over gRPC: the connection ended",
    async examine(machine) {
      await machine.use(FOUR);
      await using proxy = await startProxy(machine.server.url);
      await redirect(machine, proxy.url);
      return await machine.doctor(FOUR);
    },
  },
  {
    what: "the certificate is not trusted",
    check: "tls",
    says: "no trusted TLS connection to SERVER: the certificate is signed by itself",
    async examine(machine) {
      const [key, cert] = ["key.pem", "cert.pem"].map((name) => path.join(machine.home, name)) as [
        string,
        string,
      ];
      const words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30";
      const subject = ["-subj", "/CN=cache", "-addext", "subjectAltName=IP:127.0.0.1"];
      const made = ["-keyout", key, "-out", cert, ...subject];
      expect(await runCommand("openssl", [...words.split(" "), ...made])).toMatchObject({
        status: 0,
      });
      await using server = await startFlywheel({ args: ["--tls-cert", cert, "--tls-key", key] });
      await machine.use(FOUR);
      const text = await readFile(machine.ownRc, "utf8");
      const secure = text.replace(/grpc:\/\/\S+/, `grpcs://${new URL(server.url).host}`);
      // Named as Bazel is told about it, the authority is good.
      await writeFile(machine.ownRc, `${secure}build --tls_certificate=${cert}\n`);
      const good = await machine.doctor(FOUR);
      expect(good.find("tls")).toMatchObject({ severity: "ok" });
      // The token is another server's.
      expect(good.find("grpc")?.message).toContain("UNAUTHENTICATED");
      await writeFile(machine.ownRc, secure);
      return await machine.doctor(FOUR);
    },
  },
  {
    what: "the server's clock is wrong",
    check: "clock",
    severity: "warning",
    exitCode: 0,
    says: "the server's clock is 2 h ahead of this machine's",
    async examine(machine) {
      await machine.use([...FOUR, "--http"]);
      const date = new Date(Date.now() + 2 * 3600 * 1000).toUTCString();
      await using proxy = await startProxy(machine.server.url, { headers: { date } });
      await redirect(machine, proxy.url);
      return await machine.doctor(FOUR);
    },
  },
  {
    what: "something between changes blobs",
    check: "blob",
    says: "a blob cannot be written and read again: it came back as another",
    async examine(machine) {
      await machine.use([...FOUR, "--http"]);
      await using proxy = await startProxy(machine.server.url, {
        body: (bytes, url) =>
          url.includes("/cas/") ? Buffer.concat([bytes.subarray(1), bytes.subarray(0, 1)]) : bytes,
      });
      await redirect(machine, proxy.url);
      return await machine.doctor(FOUR);
    },
  },
];

/** A message with what differs from run to run replaced by its name. */
function generalize(message: string, { ownRc, userRc, workspace }: Machine): string {
  return (
    message
      .replaceAll(path.join(path.dirname(ownRc), "credential-helper"), "HELPER")
      .replaceAll(ownRc, "OWNRC")
      .replaceAll(userRc, "USERRC")
      .replaceAll(workspace, "WORKSPACE")
      .replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, "TIME")
      // Which of them it is depends on who is first.
      .replaceAll(/the connection was (closed|reset)/g, "the connection ended")
      .replaceAll(/127\.0\.0\.1:\d+/g, "SERVER")
  );
}

describe("what is broken is named", () => {
  let server: RunningFlywheel;
  beforeAll(async () => {
    server = await startFlywheel();
  });
  afterAll(() => server[Symbol.asyncDispose]());

  test.each(BROKEN.map((broken) => [broken.what, broken] as const))(
    "%s",
    async (_, { check, says, severity = "error", exitCode = 1, examine }) => {
      await using machine = await createMachine(server);
      const found = await examine(machine);
      const finding = found.find(check);
      expect({
        severity: finding?.severity,
        message: generalize(finding?.message ?? "", machine),
      }).toEqual({ severity, message: says });
      expect(finding?.cause).toMatch(/\S/);
      expect(finding?.remedy).toMatch(/\S/);
      expect(found.status).toBe(exitCode);
    },
  );
});

test("docs/how-to/doctor-bazel.md lists what was broken and what it said", async () => {
  const rows = BROKEN.map(({ what, check, says }) => `| ${what} | \`${check}\` | ${says} |`);
  const page = await readFile(PAGE, "utf8");
  const listed = page
    .split("\n")
    .filter((line) => /^\| .* \| `[\w-]+` +\| /.test(line))
    // The formatter pads the columns.
    .map((line) => line.replaceAll(/ +\|/g, " |"));
  expect(listed).toEqual(rows);
});
