import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { loadSettings } from "../src/config/load-settings.ts";

let directory = "";

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "settings-"));
});

afterAll(async () => {
  await rm(directory, { recursive: true });
});

async function writeConfig(text: string): Promise<string> {
  const file = join(directory, "flywheel.yaml");
  await writeFile(file, text);
  return file;
}

test("a flag wins over a variable, a variable over the file, the file over the default", async () => {
  const file = await writeConfig("listen: 127.0.0.1:1\nlimits:\n  idleTimeout: 5s\n");
  const environment = { FLYWHEEL_LISTEN: "127.0.0.1:2" };
  const flags = { listen: { flag: "--listen", value: "127.0.0.1:3" } };

  expect((await loadSettings({ environment: {} })).listen.port).toBe(7480);
  expect((await loadSettings({ file, environment: {} })).listen.port).toBe(1);
  expect((await loadSettings({ file, environment })).listen.port).toBe(2);
  expect((await loadSettings({ file, environment, flags })).listen.port).toBe(3);
  expect((await loadSettings({ file, environment })).idleTimeoutMs).toBe(5000);
});

test.each([
  "FLYWHEEL_RETENTION_SWEEP_INTERVAL",
  "FLYWHEEL_RETENTION_COLLECT_INTERVAL",
  "FLYWHEEL_TLS_RELOAD_INTERVAL",
  "FLYWHEEL_SHUTDOWN_TIMEOUT",
  "FLYWHEEL_LIMITS_IDLE_TIMEOUT",
])("%s is refused when it is longer than a timer can be", async (variable) => {
  await expect(loadSettings({ environment: { [variable]: "10d" } })).resolves.toBeDefined();
  await expect(loadSettings({ environment: { [variable]: "30d" } })).rejects.toMatchObject({
    code: "CONFIG",
    message: expect.stringContaining(variable),
  });
});

test("variables of clients are none of the server's business", async () => {
  const environment = {
    FLYWHEEL_SERVER: "x",
    FLYWHEEL_TOKEN: "x",
    FLYWHEEL_VIEW: "x",
    PATH: "/bin",
  };
  await expect(loadSettings({ environment })).resolves.toMatchObject({ logLevel: "info" });
});

test("a key and a group without a value change nothing", async () => {
  const file = await writeConfig("listen:\nlimits:\n  # idleTimeout: 5s\n");
  expect(await loadSettings({ file, environment: {} })).toEqual(
    await loadSettings({ environment: {} }),
  );
});

test("a file without any setting is one, JSON is read as YAML, and lists as lists", async () => {
  const defaults = await loadSettings({ environment: {} });
  for (const text of ["", "# nothing\n", "{}"]) {
    expect(await loadSettings({ file: await writeConfig(text), environment: {} })).toEqual(
      defaults,
    );
  }
  const file = await writeConfig('{"allowedHosts": ["a:1", "b"], "log": {"requests": false}}');
  expect(await loadSettings({ file, environment: {} })).toEqual({
    ...defaults,
    allowedHosts: ["a:1", "b"],
    logRequests: false,
  });
});

test("relative paths in the file are relative to the file", async () => {
  const file = await writeConfig(
    "data: data\ntls:\n  cert: cert.pem\n  key: key.pem\ntokens:\n  keys:\n    - { algorithm: HS256, file: token.key, kid: a }\n",
  );
  expect(await loadSettings({ file, environment: {} })).toMatchObject({
    dataDirectory: join(directory, "data"),
    tlsCert: join(directory, "cert.pem"),
    tokenKeys: [{ algorithm: "HS256", file: join(directory, "token.key"), kid: "a" }],
  });
});

describe("a mistake names its place and what to write", () => {
  test.each([
    [{ FLYWHEEL_LISTEN: "nonsense" }, /^FLYWHEEL_LISTEN: "nonsense" is no address and port/],
    [{ FLYWHEEL_LISTEN: "127.0.0.1:99999" }, /^FLYWHEEL_LISTEN: /],
    [{ FLYWHEEL_LIMITS_MAX_NAR_SIZE: "big" }, /^FLYWHEEL_LIMITS_MAX_NAR_SIZE: "big" is not a size/],
    [{ FLYWHEEL_LIMITS_IDLE_TIMEOUT: "60" }, /^FLYWHEEL_LIMITS_IDLE_TIMEOUT: "60" is not a dur/],
    [{ FLYWHEEL_COMPRESSION_LEVEL: "20" }, /^FLYWHEEL_COMPRESSION_LEVEL: "20" is no whole number/],
    [{ FLYWHEEL_LOG_LEVEL: "loud" }, /^FLYWHEEL_LOG_LEVEL: "loud" is none of its values/],
    [{ FLYWHEEL_LOG_REQUESTS: "yes" }, /^FLYWHEEL_LOG_REQUESTS: /],
    [{ FLYWHEEL_PUBLIC_URL: "cache.example.org" }, /^FLYWHEEL_PUBLIC_URL: .* is no URL/],
    [{ FLYWHEEL_PUBLIC_URL: "ftp://x" }, /^FLYWHEEL_PUBLIC_URL: .*no plain http or https/],
    [{ FLYWHEEL_TOKEN_KEYS: "secret" }, /^FLYWHEEL_TOKEN_KEYS: the value is no JSON list/],
    [{ FLYWHEEL_TOKEN_KEYS: '[{"algorithm":"none"}]' }, /^FLYWHEEL_TOKEN_KEYS: an entry/],
    [{ FLYWHEEL_TLS_CERT: "a.pem" }, /^tls\.cert and tls\.key belong together/],
    [{ FLYWHEEL_TLS_CLIENT_CA: "a.pem" }, /^tls\.clientCa needs tls\.cert/],
    [{ FLYWHEEL_LISTN: "x" }, /^FLYWHEEL_LISTN: there is no such variable/],
  ])("%j", async (environment, message) => {
    await expect(loadSettings({ environment })).rejects.toMatchObject({
      code: "CONFIG",
      message: expect.stringMatching(message),
      hint: expect.stringMatching(/./),
    });
  });

  test("a wrong variable suggests the nearest", async () => {
    await expect(loadSettings({ environment: { FLYWHEEL_LISTN: "x" } })).rejects.toMatchObject({
      hint: expect.stringContaining("Did you mean FLYWHEEL_LISTEN?"),
    });
  });

  test.each([
    ["limits:\n  idleTimout: 5s\n", "Did you mean limits.idleTimeout?"],
    ["limts:\n  idleTimeout: 5s\n", "Did you mean limits?"],
    ["public_url: x\n", "Did you mean publicUrl?"],
  ])("file %j suggests the nearest", async (text, hint) => {
    const file = await writeConfig(text);
    await expect(loadSettings({ file, environment: {} })).rejects.toMatchObject({
      hint: expect.stringContaining(hint),
    });
  });

  test.each([
    ["limts:\n  idleTimeout: 5s\n", /: limts: there is no such setting/],
    ["limits:\n  idleTimout: 5s\n", /: limits\.idleTimout: there is no such setting/],
    ["limits: 5\n", /: limits is no group of settings/],
    ["- 1\n", /: the document is no group of settings/],
    ["limits:\n  idleTimeout: soon\n", /: limits\.idleTimeout: "soon" is not a duration/],
    ["a: [\n", /flywheel\.yaml is no YAML/],
  ])("file %j", async (text, message) => {
    const file = await writeConfig(text);
    await expect(loadSettings({ file, environment: {} })).rejects.toMatchObject({
      code: "CONFIG",
      message: expect.stringMatching(message),
    });
  });

  test("a file that is not there is named", async () => {
    await expect(
      loadSettings({ file: "/nowhere/flywheel.yaml", environment: {} }),
    ).rejects.toMatchObject({
      code: "CONFIG",
      message: "The configuration file /nowhere/flywheel.yaml does not exist",
    });
  });
});
