import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { chmod, mkdir, open, readFile, rm, stat, writeFile } from "node:fs/promises";
import { createServer, request, type Server } from "node:http";
import { type AddressInfo, createServer as createTcpServer } from "node:net";
import path from "node:path";
import { fileURLToPath } from "node:url";

import {
  formatHash,
  formatPublicKey,
  generateSecretKey,
  parseNarInfo,
  parsePublicKey,
  toPublicKey,
} from "@glorious/nix-store";
import {
  type CommandResult,
  createNixSandbox,
  describeEachNix,
  findNixVersions,
  type NixSandbox,
  type NixSettings,
  type NixVersion,
  type RunningFlywheel,
  runCommand,
  startFlywheel,
} from "@glorious/testkit";
import { signToken, type TokenClaims } from "@glorious/trust";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const MAIN = fileURLToPath(new URL("../src/main.ts", import.meta.url));
const PAGE = new URL("../../../docs/how-to/doctor.md", import.meta.url);

interface Finding {
  readonly check: string;
  readonly severity: string;
  readonly message: string;
  readonly cause?: string;
  readonly remedy?: string;
}

/** A Nix of its own that is configured as `flywheel use` would, for a view that has one path. */
interface Machine extends AsyncDisposable {
  readonly server: RunningFlywheel;
  readonly nix: NixSandbox;
  /** In the view and in the local store. */
  readonly storePath: string;
  /** What a good token of this server says, changed as given. */
  readonly sign: (claims?: Partial<TokenClaims>) => Promise<string>;
  /** Configures everything well, but for the settings given. */
  configure(settings?: NixSettings): Promise<void>;
  /** Runs `flywheel`. */
  run(words: readonly string[], env?: Readonly<Record<string, string>>): Promise<CommandResult>;
  /** Runs `flywheel doctor nix --json` and gives its findings by check. */
  doctor(options?: {
    readonly words?: readonly string[];
    readonly env?: Readonly<Record<string, string>>;
    readonly server?: string;
    readonly view?: string;
    readonly asNobody?: boolean;
  }): Promise<{ readonly status: number; readonly find: (check: string) => Finding | undefined }>;
}

async function createMachine(nix: NixVersion, server: RunningFlywheel): Promise<Machine> {
  const sandbox = await createNixSandbox(nix);
  const secret = await readFile(path.join(server.dataDirectory, "token.key"), "utf8");
  const key = { algorithm: "HS256", secret: Buffer.from(secret.trim(), "base64") } as const;
  const machine: Omit<Machine, "storePath" | typeof Symbol.asyncDispose> = {
    server,
    nix: sandbox,
    sign: (claims = {}) =>
      signToken(key, {
        caches: [["main", new Set(["pull"])]],
        isAdmin: false,
        jti: randomUUID(),
        expiresAtMs: Date.now() + 3 * 24 * 3600 * 1000,
        ...claims,
      }),
    async configure(settings = {}) {
      await sandbox.configure({
        substituters: [server.substituter],
        trustedKeys: [server.publicKey],
        netrc: [{ password: await machine.sign() }],
        ...settings,
      });
    },
    run: (words, env = {}) =>
      runCommand(process.execPath, ["--conditions=source", MAIN, ...words], {
        env: { ...sandbox.env, ...env },
      }),
    async doctor(options = {}) {
      const target = `--server ${options.server ?? server.url} --view ${options.view ?? "main"}`;
      const words = `doctor nix --json --timeout 1500ms ${target}`
        .split(" ")
        .concat(options.words ?? []);
      const command = [process.execPath, "--conditions=source", MAIN, ...words];
      const [program = "", ...args] =
        options.asNobody === true ? [...AS_NOBODY, ...command] : command;
      const token = await server.readToken();
      const { status, stdout, stderr } = await runCommand(program, args, {
        env: { ...sandbox.env, FLYWHEEL_TOKEN: token, ...options.env },
        cwd: "/",
      });
      // Whatever is wrong, no token shows.
      expect(stdout + stderr).not.toMatch(/eyJ[\w-]{20}/);
      const report = JSON.parse(stdout === "" ? "{}" : stdout) as { findings?: Finding[] };
      const findings = report.findings ?? [];
      expect({ stderr, count: findings.length }).toMatchObject({ count: 26 });
      return { status, find: (check) => findings.find((it) => it.check === check) };
    },
  };
  // Built before Nix knows the view: it would remember that the view did not have the path.
  const storePath = await pushPath(machine);
  await machine.configure();
  return {
    ...machine,
    storePath,
    [Symbol.asyncDispose]: () => sandbox[Symbol.asyncDispose](),
  };
}

async function pushPath(
  machine: Pick<Machine, "nix" | "run" | "server">,
  script = `printf ${"0123456789abcdef".repeat(8)} > $out`,
): Promise<string> {
  const storePath = await machine.nix.buildPath(
    `mkPath { name = "doctor"; script = "${script}"; }`,
  );
  const words = ["push", "--server", machine.server.url, "--view", "main", storePath];
  const FLYWHEEL_TOKEN = await machine.server.readToken();
  expect(await machine.run(words, { FLYWHEEL_TOKEN })).toMatchObject({ status: 0 });
  return storePath;
}

/** A user that is nobody in particular. */
const AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

/** What stands before a server and changes its answers. */
async function startProxy(
  target: string,
  change: (headers: Record<string, unknown>) => Record<string, unknown>,
): Promise<{ readonly url: string } & AsyncDisposable> {
  const server = createServer((incoming, outgoing) => {
    const forwarded = request(
      new URL(incoming.url ?? "/", target),
      { method: incoming.method, headers: incoming.headers },
      (response) => {
        outgoing.sendDate = false;
        outgoing.writeHead(response.statusCode ?? 500, change(response.headers) as never);
        response.pipe(outgoing);
      },
    );
    incoming.pipe(forwarded);
  });
  return listen(server);
}

async function listen(
  server: Server | ReturnType<typeof createTcpServer>,
): Promise<{ readonly url: string } & AsyncDisposable> {
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    async [Symbol.asyncDispose]() {
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

describeEachNix("a machine that is well", (version) => {
  test("has nothing wrong, and exit code 0", async () => {
    await using server = await startFlywheel();
    await using machine = await createMachine(version, server);
    const found = await machine.doctor({ words: ["--store-path", machine.storePath] });
    const checks = ["nix", "substituter", "public-key", "access", "signature", "nar", "nix-verify"];
    for (const check of checks) expect(found.find(check)).toMatchObject({ severity: "ok" });
    expect(found.status).toBe(0);
    // Without a path named it finds the one that it has.
    const picked = await machine.doctor();
    expect(picked.find("nar")).toMatchObject({ severity: "ok" });
    const text = await machine.run(["doctor", "nix", "--server", server.url, "--view", "main"]);
    expect(text.status).toBe(0);
    expect(text.stdout).toMatch(/^ok +nix +Nix 2\.\d+/);
    expect(text.stderr).toContain(`Nix uses ${server.substituter}.`);
  });
});

test("not to say what to look at is misuse", async () => {
  const env = { PATH: process.env["PATH"], HOME: "/nonexistent" };
  for (const words of [
    [],
    ["--server", "http://127.0.0.1:9"],
    ["--store-path", "x", "--server", "http://a/", "--view", "v"],
  ]) {
    const { status, stdout } = await runCommand(
      process.execPath,
      ["--conditions=source", MAIN, "doctor", "nix", ...words],
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
  readonly examine: (machine: Machine) => ReturnType<Machine["doctor"]>;
}

const with_ =
  (settings: (machine: Machine) => NixSettings | Promise<NixSettings>): Broken["examine"] =>
  async (machine) => {
    await machine.configure(await settings(machine));
    return machine.doctor();
  };
const withToken = (claims: Partial<TokenClaims>): Broken["examine"] =>
  with_(async (machine) => ({ netrc: [{ password: await machine.sign(claims) }] }));
/** Nothing answers there. */
const UPSTREAM = {
  url: "http://127.0.0.1:9",
  key: formatPublicKey(toPublicKey(generateSecretKey("upstream-1"))),
};
const withUpstream =
  (settings: (machine: Machine) => NixSettings): Broken["examine"] =>
  async (machine) => {
    const { server } = machine;
    const env = { FLYWHEEL_TOKEN: await server.readToken(), FLYWHEEL_SERVER: server.url };
    const add = ["upstream", "add", "nixos", UPSTREAM.url, "--key", UPSTREAM.key];
    for (const words of [add, ["upstream", "use", "main", "nixos"]]) {
      expect(await machine.run(words, env)).toMatchObject({ status: 0 });
    }
    try {
      await machine.configure(settings(machine));
      return await machine.doctor();
    } finally {
      await machine.run(["upstream", "remove", "nixos"], env);
    }
  };
const otherValue = (publicKey: string): string =>
  formatPublicKey(toPublicKey(generateSecretKey(parsePublicKey(publicKey).name)));

const BROKEN: readonly Broken[] = [
  {
    what: "Nix is not installed",
    check: "nix",
    says: "Nix does not run: /nonexistent/nix cannot be run: there is no such command",
    examine: (machine) => machine.doctor({ words: ["--nix", "/nonexistent/nix"] }),
  },
  {
    what: "the view is missing in `substituters`",
    check: "substituter",
    says: "SUBSTITUTER is not among the substituters",
    examine: with_(() => ({ substituters: [] })),
  },
  {
    what: "`substitute = false`",
    check: "settings",
    says: "Nix is told never to substitute: substitute = false",
    examine: with_(() => ({ extra: { substitute: "false" } })),
  },
  {
    what: "the key of another cache is trusted",
    check: "public-key",
    says: "the view's key KEY is not in trusted-public-keys",
    examine: with_(() => ({
      trustedKeys: [formatPublicKey(toPublicKey(generateSecretKey("another-1")))],
    })),
  },
  {
    what: "a key of the same name but another value is trusted",
    check: "public-key",
    says: "the trusted key KEY has another value than the server's",
    examine: with_(({ server }) => ({ trustedKeys: [otherValue(server.publicKey)] })),
  },
  {
    what: "the key's old value stands before the new one",
    check: "public-key",
    says: "the trusted key KEY has another value than the server's",
    examine: with_(({ server }) => ({
      trustedKeys: [otherValue(server.publicKey), server.publicKey],
    })),
  },
  {
    what: "no key that is trusted has signed the path",
    check: "signature",
    says: "no trusted key has signed PATH",
    examine: with_(({ server }) => ({ trustedKeys: [otherValue(server.publicKey)] })),
  },
  {
    what: "`require-sigs = false`",
    check: "require-sigs",
    severity: "warning",
    exitCode: 0,
    says: "signatures are not required: require-sigs = false",
    examine: with_(() => ({ extra: { "require-sigs": "false" } })),
  },
  {
    what: "the key of an upstream of the view is not trusted",
    check: "upstream-keys",
    says: "no key of nixos is trusted",
    examine: withUpstream(() => ({})),
  },
  {
    what: "an upstream of the view still stands in `substituters`",
    check: "one-substituter",
    says: "Nix asks http://SERVER as well, which the view falls back to",
    severity: "warning",
    exitCode: 0,
    examine: withUpstream(({ server }) => ({
      substituters: [server.substituter, UPSTREAM.url],
      trustedKeys: [server.publicKey, UPSTREAM.key],
    })),
  },
  {
    what: "there is no netrc file",
    check: "netrc-file",
    says: "there is no netrc file: NETRC does not exist",
    async examine(machine) {
      await machine.configure();
      await rm(path.join(machine.nix.confDirectory, "netrc"));
      return machine.doctor();
    },
  },
  {
    what: "the netrc file is for another host",
    check: "netrc-entry",
    says: "NETRC has no entry for 127.0.0.1",
    examine: with_(async ({ sign }) => ({
      netrc: [{ machine: "cache.example.org", password: await sign() }],
    })),
  },
  {
    what: "the netrc file names the host with its port",
    check: "netrc-entry",
    says: "NETRC has no entry for 127.0.0.1",
    examine: with_(async ({ sign }) => ({
      netrc: [{ machine: "127.0.0.1:7480", password: await sign() }],
    })),
  },
  {
    what: "two servers on one host share the netrc file",
    check: "netrc-entry",
    severity: "warning",
    exitCode: 0,
    says: "NETRC has several tokens for 127.0.0.1: Nix sends the one of line 1",
    examine: with_(async ({ sign }) => ({
      netrc: [{ password: await sign() }, { password: await sign() }],
    })),
  },
  {
    what: "the user may not read the netrc file",
    check: "netrc-file",
    says: "you may not read the netrc file NETRC",
    async examine(machine) {
      await machine.configure();
      await openToNobody(machine);
      // A store of the user's own: the machine's is root's.
      const store = await createNobodysFolder(machine, "store");
      return machine.doctor({ asNobody: true, env: { NIX_REMOTE: store } });
    },
  },
  {
    what: "the token has expired",
    check: "token",
    says: "the token in the netrc file expired at TIME",
    examine: withToken({ expiresAtMs: Date.now() - 24 * 3600 * 1000 }),
  },
  {
    what: "the token is not valid yet",
    check: "token",
    says: "the token in the netrc file is not valid before TIME",
    examine: withToken({ notBeforeMs: Date.now() + 24 * 3600 * 1000 }),
  },
  {
    what: "the token is of another view",
    check: "token",
    says: "the token in the netrc file gives no pull permission on main",
    examine: withToken({ caches: [["other", new Set(["pull"])]] }),
  },
  {
    what: "the token may push but not pull",
    check: "access",
    says: "Nix's token is good, but not for pulling from main (403)",
    examine: withToken({ caches: [["main", new Set(["push"])]] }),
  },
  {
    what: "the token was revoked",
    check: "access",
    says: "the server refuses Nix's token (401)",
    async examine(machine) {
      const jti = randomUUID();
      await machine.configure({ netrc: [{ password: await machine.sign({ jti }) }] });
      const FLYWHEEL_TOKEN = await machine.server.readToken();
      const revoke = ["token", "revoke", "--server", machine.server.url, jti];
      expect(await machine.run(revoke, { FLYWHEEL_TOKEN })).toMatchObject({ status: 0 });
      const found = await machine.doctor();
      expect(found.find("access")?.cause).toContain("The token has been revoked");
      return found;
    },
  },
  {
    what: "there is no such view",
    check: "access",
    says: "there is no view absent on the server (404)",
    async examine(machine) {
      const caches: TokenClaims["caches"] = [["*", new Set(["pull"])]];
      await machine.configure({ netrc: [{ password: await machine.sign({ caches }) }] });
      return machine.doctor({ view: "absent" });
    },
  },
  {
    what: "the host has no address",
    check: "name",
    says: "the host cache.invalid is not found: the host name is unknown",
    examine: (machine) => machine.doctor({ server: "http://cache.invalid" }),
  },
  {
    what: "the server is down",
    check: "connection",
    says: "SERVER cannot be connected to: nothing listens there",
    async examine(machine) {
      const gone = await listen(createTcpServer());
      await gone[Symbol.asyncDispose]();
      return machine.doctor({ server: gone.url });
    },
  },
  {
    what: "something accepts the connection and stays silent",
    check: "access",
    says: "SUBSTITUTER does not answer: the server was silent for 1.5 s",
    async examine(machine) {
      const sockets = new Set<{ destroy(): void }>();
      await using hole = await listen(
        createTcpServer((socket) => {
          sockets.add(socket);
          socket.on("error", () => {});
        }),
      );
      try {
        return await machine.doctor({ server: hole.url });
      } finally {
        for (const socket of sockets) socket.destroy();
      }
    },
  },
  {
    what: "a proxy in the environment is dead",
    check: "proxy",
    says: "the proxy PROXY does not answer: nothing listens there",
    async examine(machine) {
      const gone = await listen(createTcpServer());
      await gone[Symbol.asyncDispose]();
      return machine.doctor({ env: { http_proxy: gone.url.replace("//", "//ada:sesame@") } });
    },
  },
  {
    what: "the certificate is not trusted",
    check: "tls",
    says: "no trusted TLS connection to SERVER: the certificate is signed by itself",
    async examine(machine) {
      const [key, cert] = ["key.pem", "cert.pem"].map((name) =>
        path.join(machine.nix.directory, name),
      ) as [string, string];
      const subject = ["-subj", "/CN=cache", "-addext", "subjectAltName=IP:127.0.0.1"];
      const words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30";
      const files = ["-keyout", key, "-out", cert];
      await machine.nix.output("openssl", [...words.split(" "), ...files, ...subject]);
      await using server = await startFlywheel({ args: ["--tls-cert", cert, "--tls-key", key] });
      // Named as Nix is told about it, the authority is good.
      const good = await machine.doctor({ server: server.url, env: { NIX_SSL_CERT_FILE: cert } });
      expect(good.find("tls")).toMatchObject({ severity: "ok" });
      return await machine.doctor({ server: server.url });
    },
  },
  {
    what: "the server's clock is wrong",
    check: "clock",
    severity: "warning",
    says: "the server's clock is 2 h ahead of this machine's",
    async examine(machine) {
      await using proxy = await startProxy(machine.server.url, (headers) => ({
        ...headers,
        date: new Date(Date.now() + 2 * 3600 * 1000).toUTCString(),
      }));
      return await machine.doctor({ server: proxy.url });
    },
  },
  {
    what: "the token is still good here, but not by the server's clock",
    check: "token",
    says: "the token in the netrc file expired at TIME",
    async examine(machine) {
      await using proxy = await startProxy(machine.server.url, (headers) => ({
        ...headers,
        date: new Date(Date.now() + 2 * 3600 * 1000).toUTCString(),
      }));
      const expiresAtMs = Date.now() + 3600 * 1000;
      await machine.configure({ netrc: [{ password: await machine.sign({ expiresAtMs }) }] });
      const found = await machine.doctor({ server: proxy.url });
      expect(found.find("token")?.cause).toContain("the server's is ahead");
      return found;
    },
  },
  {
    what: "the view is for another store directory",
    check: "store-dir",
    says: "the view is for stores in /opt/store, this machine's is /nix/store",
    async examine(machine) {
      const FLYWHEEL_TOKEN = await machine.server.readToken();
      const create = ["view", "create", "opt", "--store-dir", "/opt/store"];
      const made = await machine.run([...create, "--server", machine.server.url], {
        FLYWHEEL_TOKEN,
      });
      expect(made).toMatchObject({ status: 0 });
      const caches: TokenClaims["caches"] = [["opt", new Set(["pull"])]];
      await machine.configure({ netrc: [{ password: await machine.sign({ caches }) }] });
      return machine.doctor({ view: "opt" });
    },
  },
  {
    what: "the view does not have the path",
    check: "narinfo",
    says: "no usable narinfo: the view does not have PATH",
    async examine(machine) {
      const storePath = `/nix/store/${"0".repeat(32)}-absent`;
      return machine.doctor({ words: ["--store-path", storePath] });
    },
  },
  {
    what: "a byte of the stored NAR is flipped",
    check: "nar",
    says: "the NAR of PATH is damaged",
    async examine(machine) {
      // The server itself looks at every byte of small ones.
      const storePath = await pushPath(machine, "head -c 200000 /dev/urandom > $out");
      await flipByte(machine, storePath);
      return machine.doctor({ words: ["--store-path", storePath] });
    },
  },
  {
    what: "a byte of a small stored NAR is flipped, which the server notices",
    check: "nar",
    says: "the NAR of PATH is answered with 404",
    async examine(machine) {
      const storePath = await pushPath(machine);
      await flipByte(machine, storePath);
      return machine.doctor({ words: ["--store-path", storePath] });
    },
  },
  {
    what: "Nix asked before the path was pushed",
    check: "memory",
    says: "Nix takes PATH as absent for another TIME",
    async examine(machine) {
      await machine.configure();
      const expression = `mkPath { name = "late"; script = "echo late > $out"; }`;
      const storePath = await machine.nix.buildPath(expression);
      const ask = ["path-info", "--store", machine.server.substituter, storePath];
      const asked = await machine.nix.run("nix", ask);
      expect(asked.status).not.toBe(0);
      const FLYWHEEL_TOKEN = await machine.server.readToken();
      const push = ["push", "--server", machine.server.url, "--view", "main", storePath];
      expect(await machine.run(push, { FLYWHEEL_TOKEN })).toMatchObject({ status: 0 });
      return machine.doctor({ words: ["--store-path", storePath] });
    },
  },
  {
    what: "`nix copy --to` left its own narinfo, without a signature",
    check: "memory",
    says: "Nix remembers another narinfo of PATH: it lacks the signature",
    async examine(machine) {
      const permissions = new Set(["pull", "push"] as const);
      const password = await machine.sign({ caches: [["main", permissions]] });
      await machine.configure({ netrc: [{ password }] });
      const expression = `mkPath { name = "copied"; script = "echo copied > $out"; }`;
      const storePath = await machine.nix.buildPath(expression);
      const target = `${machine.server.substituter}?compression=zstd`;
      await machine.nix.output("nix", ["copy", "--to", target, storePath]);
      return machine.doctor({ words: ["--store-path", storePath] });
    },
  },
  {
    what: "the daemon does not trust the user who configured the view",
    check: "substituter",
    says: "the daemon ignores SUBSTITUTER: you are not a trusted user",
    async examine(machine) {
      await machine.configure({ substituters: [], trustedKeys: [] });
      await openToNobody(machine);
      const conf = path.join(machine.nix.directory, "user.conf");
      const { substituter, publicKey } = machine.server;
      await writeFile(conf, `substituters = ${substituter}\ntrusted-public-keys = ${publicKey}\n`);
      await chmod(conf, 0o644);
      await using daemon = await startDaemon(machine.nix);
      const home = await createNobodysFolder(machine, "nobody");
      const env = { NIX_REMOTE: daemon.url, NIX_USER_CONF_FILES: conf, HOME: home };
      const found = await machine.doctor({ asNobody: true, env });
      expect(found.find("trust")).toMatchObject({ severity: "warning" });
      expect(found.find("public-key")?.message).toMatch(/daemon ignores your trust in/);
      expect(found.find("netrc-file")).toMatchObject({ severity: "ok" });
      // Root is trusted, and the same settings are heeded.
      const root = await machine.doctor({ env: { ...env, HOME: machine.nix.home } });
      expect(root.find("trust")?.message).toMatch(/the daemon substitutes, and trusts you, root/);
      expect(root.find("substituter")).toMatchObject({ severity: "ok" });
      return found;
    },
  },
];

/** Lets everybody into the sandbox's folder; the netrc file keeps its rights. */
async function openToNobody({ nix }: Machine): Promise<void> {
  await chmod(nix.directory, 0o755);
  expect((await stat(path.join(nix.confDirectory, "netrc"))).mode & 0o777).toBe(0o600);
}

async function createNobodysFolder({ nix }: Machine, name: string): Promise<string> {
  const folder = path.join(nix.directory, name);
  await mkdir(folder);
  await nix.output("chown", ["65534:65534", folder]);
  return folder;
}

async function flipByte({ server, sign }: Machine, storePath: string): Promise<void> {
  const hash = path.basename(storePath).slice(0, 32);
  const headers = { authorization: `Bearer ${await sign()}` };
  const answer = await fetch(`${server.substituter}/${hash}.narinfo`, { headers });
  const { fileHash } = parseNarInfo(await answer.text());
  const name = fileHash === undefined ? "" : formatHash(fileHash, "base16").slice(7);
  const blobs = path.join(server.dataDirectory, "store", "blobs");
  const found = await runCommand("find", [blobs, "-type", "f", "-name", `*${name.slice(8)}*`]);
  await using file = await open(found.stdout.trim(), "r+");
  const { size } = await file.stat();
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, size - 20);
  await file.write(Buffer.from([(byte[0] ?? 0) ^ 1]), 0, 1, size - 20);
}

async function startDaemon(nix: NixSandbox): Promise<{ readonly url: string } & AsyncDisposable> {
  const socket = path.join(nix.directory, "socket");
  const daemon = spawn(path.join(nix.nix.binDirectory, "nix-daemon"), [], {
    env: { ...nix.env, NIX_DAEMON_SOCKET_PATH: socket },
    stdio: "ignore",
  });
  await expect
    .poll(() =>
      stat(socket).then(
        () => true,
        () => false,
      ),
    )
    .toBe(true);
  return {
    url: `unix://${socket}`,
    async [Symbol.asyncDispose]() {
      const gone = new Promise((resolve) => daemon.once("close", resolve));
      daemon.kill();
      await gone;
    },
  };
}

/** A message with what differs from run to run replaced by its name. */
function generalize(message: string, machine: Machine): string {
  const { server, nix } = machine;
  return message
    .replaceAll(parsePublicKey(server.publicKey).name, "KEY")
    .replaceAll(path.join(nix.confDirectory, "netrc"), "NETRC")
    .replaceAll(/\/nix\/store\/[0-9a-z]{32}-[\w-]+/g, "PATH")
    .replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, "TIME")
    .replaceAll(/(?<=another )[\d.]+ (s|m|h)\b/g, "TIME")
    .replaceAll(/(?<=proxy )http:\/\/127\.0\.0\.1:\d+/g, "PROXY")
    .replaceAll(/http:\/\/127\.0\.0\.1:\d+\/main/g, "SUBSTITUTER")
    .replaceAll(/127\.0\.0\.1:\d+/g, "SERVER");
}

const [oldest] = findNixVersions();

describe.skipIf(oldest === undefined)("what is broken is named", () => {
  let machine: Machine;
  const resources = new AsyncDisposableStack();

  beforeAll(async () => {
    if (oldest === undefined) return;
    const server = resources.use(await startFlywheel());
    machine = resources.use(await createMachine(oldest, server));
  });
  afterAll(() => resources.disposeAsync());

  test.each(BROKEN.map((broken) => [broken.what, broken] as const))(
    "%s",
    async (_, { check, says, severity = "error", exitCode = 1, examine }) => {
      await machine.configure();
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

test("docs/how-to/doctor.md lists what was broken and what it said", async () => {
  const rows = BROKEN.map(({ what, check, says }) => `| ${what} | \`${check}\` | ${says} |`);
  const page = await readFile(PAGE, "utf8");
  const listed = page
    .split("\n")
    .filter((line) => /^\| .* \| `[\w-]+` +\| /.test(line))
    // The formatter pads the columns.
    .map((line) => line.replaceAll(/ +\|/g, " |"));
  expect(listed).toEqual(rows);
});
