import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { accessSync, constants } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { createServer, type AddressInfo } from "node:net";
import { homedir, tmpdir } from "node:os";
import { delimiter, join } from "node:path";

import { expect, test, vi } from "vitest";

import { createTestPath, type TestPath } from "./test-path.ts";
import { startTestServer, type TestServer } from "./test-server.ts";
import { pushAttic } from "./uploads.ts";

/** Debian's nginx: the machine's own, or what `pnpm tools` unpacked. */
function findNginx(): string | undefined {
  const cache = process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache");
  const folders = [
    ...(process.env["PATH"] ?? "").split(delimiter),
    "/usr/sbin",
    join(cache, "gloriousflywheel/tools/debian/usr/sbin"),
  ];
  return folders
    .map((folder) => join(folder, "nginx"))
    .find((file) => {
      try {
        accessSync(file, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

const nginx = findNginx();

interface Proxy extends AsyncDisposable {
  readonly url: string;
}

/** nginx as docs/behind-nginx.md sets it up, without TLS, in front of `server`. */
async function startNginx(command: string, server: TestServer): Promise<Proxy> {
  const page = await readFile(new URL("../../../docs/behind-nginx.md", import.meta.url), "utf8");
  const documented = /^ *```nginx\n([\s\S]*?)^ *```$/m.exec(page)?.[1] ?? "";
  const port = await freePort();
  const directory = await mkdtemp(join(tmpdir(), "nginx-"));
  const block = documented
    .replace("listen 443 ssl;", `listen 127.0.0.1:${port};`)
    .replaceAll(/^ *ssl_certificate.*$/gm, "")
    .replace("http://127.0.0.1:7480", server.url)
    .replace("/var/lib/flywheel/store/", join(server.directory, "store/"));
  const folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
  await mkdir(join(directory, "logs"));
  await writeFile(
    join(directory, "nginx.conf"),
    `daemon off; pid nginx.pid; error_log stderr; ${process.getuid?.() === 0 ? "user root root;" : ""}
     events {} http { access_log off;
     ${folders.map((name) => `${name}_temp_path ${name};`).join(" ")}
     ${block} }`,
  );
  const child = spawn(command, ["-p", directory, "-c", "nginx.conf", "-e", "stderr"], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  const exited = once(child, "exit");
  let said = "";
  child.stderr.on("data", (text: Buffer) => (said += text.toString()));
  const url = `http://127.0.0.1:${port}`;
  await vi.waitFor(
    async () => {
      if (child.exitCode !== null) throw new Error(said);
      expect((await fetch(`${url}/healthz`)).status).toBe(200);
    },
    { timeout: 20_000 },
  );
  return {
    url,
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM");
      await exited;
      await rm(directory, { recursive: true });
    },
  };
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address() as AddressInfo;
  probe.close();
  await once(probe, "close");
  return port;
}

/** Too large to be answered from memory, and of bytes that do not compress. */
async function pushLargePath(server: TestServer, token: string): Promise<TestPath> {
  const path = await createTestPath("large", randomBytes(300_000));
  const put = await pushAttic(server, token, "main", path);
  expect(put.status).toBe(200);
  return path;
}

async function narUrl(server: TestServer, token: string, path: TestPath): Promise<string> {
  const narInfo = await server.send("GET", `/main/${path.storePathHash}.narinfo`, { token });
  return `/main/${/^URL: (.*)$/m.exec(narInfo.text)?.[1]}`;
}

test.skipIf(nginx === undefined)(
  "nginx sends the NARs that the server lets it, ranges included, and nothing else of the store",
  async () => {
    await using server = await startTestServer({ accelRedirect: "/_store/" });
    await server.createView("main");
    const token = await server.token({ main: ["pull", "push"] });
    const path = await pushLargePath(server, token);
    const url = await narUrl(server, token, path);
    await using proxy = await startNginx(nginx ?? "", server);
    const ask = async (target: string, headers: Record<string, string> = {}) => {
      const authorization = `Bearer ${token}`;
      const answer = await fetch(proxy.url + target, { headers: { authorization, ...headers } });
      const body = Buffer.from(await answer.arrayBuffer());
      return { status: answer.status, headers: Object.fromEntries(answer.headers), body };
    };

    const direct = await server.send("GET", url, { token });
    const whole = await ask(url);
    expect(whole.status).toBe(200);
    expect(whole.body.equals(direct.body)).toBe(true);
    expect(whole.headers).toMatchObject({
      "content-type": "application/x-nix-nar",
      "content-length": String(direct.body.length),
      "cache-control": "private, max-age=31536000, immutable",
    });
    // The server itself sends an entity tag that is no time of a file.
    expect(whole.headers["etag"]).not.toBe(direct.headers.etag);

    const range = await ask(url, { range: "bytes=1000-1999" });
    expect(range.status).toBe(206);
    expect(range.body.equals(direct.body.subarray(1000, 2000))).toBe(true);

    expect((await fetch(proxy.url + url)).status).toBe(401);
    const hash = path.narHash;
    expect((await ask(`/_store/blobs/nar/${hash.slice(0, 2)}/${hash}`)).status).toBe(404);
    expect((await ask("/_store/tmp/")).status).toBe(404);
  },
);

test("clients that come without the proxy get the bytes themselves", async () => {
  await using server = await startTestServer({ accelRedirect: "/_store" });
  await server.createView("main");
  const token = await server.token({ main: ["pull", "push"] });
  const path = await pushLargePath(server, token);
  const url = await narUrl(server, token, path);

  const direct = await server.send("GET", url, { token });
  expect(direct.headers["x-accel-redirect"]).toBeUndefined();
  expect(direct.body.length).toBeGreaterThan(300_000);

  const proxied = await server.send("GET", url, { token, headers: { "x-flywheel-accel": "on" } });
  expect(proxied.headers["x-accel-redirect"]).toMatch(
    /^\/_store\/blobs\/nar\/[0-9a-f]{2}\/[0-9a-f]\/[0-9a-f]{64}$/,
  );
  expect(proxied.body.length).toBe(0);
});

test("a server without the setting hands nothing over, whoever asks for it", async () => {
  await using server = await startTestServer();
  await server.createView("main");
  const token = await server.token({ main: ["pull", "push"] });
  const path = await pushLargePath(server, token);
  const answer = await server.send("GET", await narUrl(server, token, path), {
    token,
    headers: { "x-flywheel-accel": "on" },
  });
  expect(answer.headers["x-accel-redirect"]).toBeUndefined();
  expect(answer.body.length).toBeGreaterThan(300_000);
});

test("a damaged object is not handed over", async () => {
  await using server = await startTestServer({ accelRedirect: "/_store/" });
  await server.createView("main");
  const token = await server.token({ main: ["pull", "push"] });
  const path = await pushLargePath(server, token);
  const url = await narUrl(server, token, path);
  const headers = { "x-flywheel-accel": "on" };
  const { "x-accel-redirect": location } = (await server.send("GET", url, { token, headers }))
    .headers;
  await truncate(join(server.directory, "store", String(location).slice("/_store/".length)), 5);

  expect((await server.send("GET", url, { token, headers })).status).toBe(404);
});
