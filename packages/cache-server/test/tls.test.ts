import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { copyFile, mkdtemp, readFile, rm } from "node:fs/promises";
import { get } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, type TLSSocket } from "node:tls";

import { Health } from "@glorious/reapi";
import { credentials } from "@grpc/grpc-js";
import { afterAll, beforeAll, expect, test, vi } from "vitest";

import { openGrpcClient } from "./bazel/grpc-client.ts";
import { startTestServer } from "./test-server.ts";

/** How a client sees a refused handshake depends on who writes first. */
const REFUSED = /certificate required|alert|ECONNRESET|EPIPE|hang up/;

let directory = "";

/** A certificate of its own authority, for localhost. */
function makeCertificate(name: string): void {
  const options = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2".split(" ");
  options.push("-subj", `/CN=${name}`, "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1");
  options.push("-keyout", join(directory, `${name}.key`), "-out", join(directory, `${name}.pem`));
  execFileSync("openssl", options, { stdio: "ignore" });
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "tls-"));
  for (const name of ["first", "second", "client"]) makeCertificate(name);
});

afterAll(async () => {
  await rm(directory, { recursive: true });
});

/** The status, and the name in the certificate that the server showed. */
async function fetchOver(
  url: string,
  authority: string,
  client?: string,
): Promise<{ status: number | undefined; shown: string | string[] | undefined }> {
  const ca = await readFile(join(directory, `${authority}.pem`));
  const own =
    client === undefined
      ? {}
      : {
          cert: await readFile(join(directory, `${client}.pem`)),
          key: await readFile(join(directory, `${client}.key`)),
        };
  return new Promise((resolve, reject) => {
    get(`${url}/healthz`, { ca, ...own, agent: false }, (response) => {
      const { subject } = (response.socket as TLSSocket).getPeerCertificate();
      response.resume();
      resolve({ status: response.statusCode, shown: subject.CN });
    }).on("error", reject);
  });
}

test("with a certificate it speaks TLS, and takes a renewed one without a restart", async () => {
  const [cert, key] = [join(directory, "cert.pem"), join(directory, "key.pem")];
  await copyFile(join(directory, "first.pem"), cert);
  await copyFile(join(directory, "first.key"), key);
  await using server = await startTestServer({
    tlsCert: cert,
    tlsKey: key,
    tlsReloadIntervalMs: "50ms",
  });
  expect(server.url).toMatch(/^https:/);
  expect(await fetchOver(server.url, "first")).toEqual({ status: 200, shown: "first" });

  await copyFile(join(directory, "second.pem"), cert);
  await vi.waitFor(() => {
    // In the middle of a renewal the files do not fit: the old ones stay in use.
    expect(server.logs.map((line) => line.message)).toContain(
      "the changed TLS files are unusable; the old ones stay",
    );
  }, 10_000);
  expect(await fetchOver(server.url, "first")).toMatchObject({ status: 200 });

  await copyFile(join(directory, "second.key"), key);
  await vi.waitFor(
    async () => expect(await fetchOver(server.url, "second")).toMatchObject({ shown: "second" }),
    10_000,
  );
});

test("with an authority for clients, only those with its certificate get in", async () => {
  await using server = await startTestServer({
    tlsCert: join(directory, "first.pem"),
    tlsKey: join(directory, "first.key"),
    tlsClientCa: join(directory, "client.pem"),
  });
  expect(await fetchOver(server.url, "first", "client")).toMatchObject({ status: 200 });
  await expect(fetchOver(server.url, "first")).rejects.toThrow(REFUSED);
  await expect(fetchOver(server.url, "first", "second")).rejects.toThrow(REFUSED);
});

test("a certificate that cannot be read stops the start and is named", async () => {
  await expect(
    startTestServer({ tlsCert: "/nowhere.pem", tlsKey: "/nowhere.key" }),
  ).rejects.toMatchObject({ code: "CONFIG", message: expect.stringContaining("/nowhere") });
});

test.each([
  ["a key of another certificate", "first.pem", "second.key"],
  ["a file that is no PEM", "first.key", "first.pem"],
])("%s stops the start, with the files' names", async (_, cert, key) => {
  await expect(
    startTestServer({ tlsCert: join(directory, cert), tlsKey: join(directory, key) }),
  ).rejects.toMatchObject({
    code: "CONFIG",
    message: expect.stringContaining(key),
    hint: expect.any(String),
  });
});

test("over TLS gRPC is spoken with clients that offer nothing else, and HTTP/1.1 with all others", async () => {
  await using server = await startTestServer({
    tlsCert: join(directory, "first.pem"),
    tlsKey: join(directory, "first.key"),
  });
  const ca = await readFile(join(directory, "first.pem"));
  const { hostname, port } = new URL(server.url);
  const chosen = async (protocols: string[]): Promise<string | false | null> => {
    const socket = connect({ host: hostname, port: Number(port), ca, ALPNProtocols: protocols });
    await once(socket, "secureConnect");
    socket.destroy();
    return socket.alpnProtocol;
  };
  expect(await chosen(["h2"])).toBe("h2");
  expect(await chosen(["h2", "http/1.1"])).toBe("http/1.1");
  expect(await chosen([])).toBe(false);

  await using client = openGrpcClient(server, undefined, credentials.createSsl(ca));
  expect(await client.unary(Health.method.check, {})).toMatchObject({ code: 0 });
  expect(await fetchOver(server.url, "first")).toMatchObject({ status: 200 });
});
