import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

import { expect, test } from "vitest";

import { createExchangeClient } from "../src/identity/exchange-client.ts";
import { openCache } from "../src/open-cache.ts";

/** In a nix.conf, an rc file or a list of variables the second line would be a setting of its own. */
const TWO_LINES = "main\npost-build-hook = /tmp/evil";

const GRANT = { trust: "trusted", read: ["main"], rule: "main", reason: "It is." };
const EXCHANGED = {
  token: "secret",
  expiresAt: "2026-11-26T12:00:00.000Z",
  grant: GRANT,
  nix: { substituters: ["https://cache.example.org/main"], publicKeys: ["main:AAAA"] },
};
const CONFIG = { substituter_endpoint: "https://cache.example.org/main", public_key: "main:AAAA" };
const FLYWHEEL = { version: 1, api: "https://cache.example.org/_flywheel/v1/" };

/** Starts a server that answers every request with the same JSON. */
async function serve(answer: object): Promise<AsyncDisposable & { readonly url: string }> {
  const server = createServer((_, response) => {
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify(answer));
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

test.each([
  ["a view to read", { ...EXCHANGED, grant: { ...GRANT, read: [TWO_LINES] } }],
  ["a view to write", { ...EXCHANGED, grant: { ...GRANT, write: TWO_LINES } }],
  ["a tenant", { ...EXCHANGED, grant: { ...GRANT, tenant: TWO_LINES } }],
  ["a key", { ...EXCHANGED, nix: { ...EXCHANGED.nix, publicKeys: [TWO_LINES] } }],
  ["an address for Nix", { ...EXCHANGED, nix: { ...EXCHANGED.nix, substituters: [TWO_LINES] } }],
  ["an instance", { ...EXCHANGED, bazel: { grpc: "grpc://a", http: "http://a", instance: "a b" } }],
])("an exchange that names %s of more than one word is refused as a whole", async (_, answer) => {
  await using server = await serve(answer);
  await using client = createExchangeClient({ server: server.url });

  await expect(client.exchange("identity")).rejects.toMatchObject({
    code: "UNSUPPORTED",
    message: expect.stringMatching(/^[^\n]*something unexpected[^\n]*$/),
  });
});

test("what a server says to people is one line each, whatever it is", async () => {
  const notices = ["a\n::set-env name=PATH::/tmp\u2028b"];
  const grant = { ...GRANT, reason: "Because.\r\n::add-path::/tmp" };
  await using server = await serve({ ...EXCHANGED, grant, notices });
  await using client = createExchangeClient({ server: server.url });

  expect(await client.exchange("identity")).toMatchObject({
    grant: { reason: "Because. ::add-path::/tmp" },
    notices: ["a ::set-env name=PATH::/tmp b"],
  });
});

test.each([
  ["a key", { ...CONFIG, public_key: TWO_LINES }],
  ["a key among several", { ...CONFIG, flywheel: { ...FLYWHEEL, publicKeys: [TWO_LINES] } }],
  ["an address", { ...CONFIG, substituter_endpoint: TWO_LINES }],
  ["an address of its own routes", { ...CONFIG, flywheel: { ...FLYWHEEL, api: TWO_LINES } }],
])("a view that has %s of more than one word is refused as a whole", async (_, answer) => {
  await using server = await serve(answer);

  await expect(openCache({ server: server.url, view: "main" })).rejects.toMatchObject({
    code: "UNSUPPORTED",
    message: expect.stringMatching(/^[^\n]*something unexpected[^\n]*$/),
  });
});
