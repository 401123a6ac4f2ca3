import { createHash } from "node:crypto";

import { expect, test } from "vitest";

import { NO_VIEW_POLICY, type QuotaGroup, type ViewPolicy } from "../src/trust/view-policy.ts";
import { jobToken } from "./job-tokens.ts";
import { createTestPath } from "./test-path.ts";
import { startTestServer, type TestAnswer, type TestServer } from "./test-server.ts";
import { postJson, pushAttic } from "./uploads.ts";

/** An enterprise `corp` above `acme` and `globex`. */
function enterprise(
  limits: Partial<QuotaGroup>,
  { overlayQuotaBytes }: { readonly overlayQuotaBytes?: number } = {},
): ViewPolicy {
  const overlays = { quotaBytes: overlayQuotaBytes, retentionSeconds: undefined };
  return {
    ...NO_VIEW_POLICY,
    settingsOf: () => ({ reads: [], overlays }),
    quotasOf: (tenant) => [
      { tenants: [tenant] },
      { tenants: ["corp", "acme", "globex"], ...limits },
    ],
  };
}

function reviewToken(server: TestServer, tenant: string): Promise<string> {
  const [base, overlay] = [`${tenant}+main`, `${tenant}+main_pr-7`];
  return jobToken(server, {
    ...{ tenant, trust: "overlay", overlayOf: base, overlayKey: tenant },
    ...{ read: [overlay, base], write: overlay },
  });
}

function putBlob(
  server: TestServer,
  token: string,
  view: string,
  size: number,
): Promise<TestAnswer> {
  const body = Buffer.alloc(size, size);
  const hash = createHash("sha256").update(body).digest("hex");
  return server.send("PUT", `/${view}/cas/${hash}`, { token, body });
}

const FULL = expect.objectContaining({ status: 507 });

test("an enterprise's quota counts the overlays of all its organizations, and no other's", async () => {
  const viewPolicy = enterprise({ overlayBytes: 250 });
  await using server = await startTestServer({}, { viewPolicy });
  const [acme, globex] = [await reviewToken(server, "acme"), await reviewToken(server, "globex")];
  await server.createView("acme+main");
  await server.createView("globex+main");
  const push = async (token: string, tenant: string, name: string) =>
    pushAttic(server, token, `${tenant}+main_pr-7`, await createTestPath(name));
  const names = ["a", "b", "c", "d", "e", "f"];
  let taken = 0;
  for (const name of names) {
    if ((await push(acme, "acme", name)).status !== 200) break;
    taken += 1;
  }
  expect(taken).toBeGreaterThan(0);
  expect(taken).toBeLessThan(names.length);
  expect(await push(globex, "globex", "other")).toEqual(FULL);

  await server.index.deleteView("acme+main_pr-7");

  expect((await push(globex, "globex", "other")).status).toBe(200);
  // What is trusted has its own quota.
  const trusted = await jobToken(server, { write: "acme+main", read: ["acme+main"] });
  expect((await pushAttic(server, trusted, "acme+main", await createTestPath("x"))).status).toBe(
    200,
  );
});

test("an overlay's quota counts documents and Bazel's data as well as NARs", async () => {
  for (const fill of ["document", "blob"] as const) {
    const viewPolicy = enterprise({}, { overlayQuotaBytes: 10_000 });
    await using server = await startTestServer({}, { viewPolicy });
    await server.createView("acme+main");
    const token = await reviewToken(server, "acme");
    const overlay = "acme+main_pr-7";
    const path = await createTestPath("small");
    expect((await pushAttic(server, token, overlay, path)).status).toBe(200);
    const log = `/${overlay}/log/${path.storePathHash}-small.drv`;
    const filled =
      fill === "document"
        ? await server.send("PUT", log, { token, body: Buffer.alloc(12_000, "log") })
        : await putBlob(server, token, overlay, 12_000);
    expect(filled.status).toBeLessThan(300);
    server.advance(3000);

    expect(await pushAttic(server, token, overlay, await createTestPath("more"))).toEqual(FULL);
  }
});

test("a tenant beyond its trusted quota is collected down to it, the larger view first", async () => {
  const viewPolicy: ViewPolicy = {
    ...NO_VIEW_POLICY,
    quotasOf: (tenant) => [{ tenants: [tenant], trustedBytes: 1000 }],
  };
  await using server = await startTestServer({}, { viewPolicy });
  const admin = await server.token({ "*": ["pull", "push"] }, { isAdmin: true });
  for (const [view, count] of [
    ["main", 20],
    ["small", 2],
  ] as const) {
    await server.createView(view);
    for (let at = 0; at < count; at += 1) {
      await pushAttic(server, admin, view, await createTestPath(`${view}-${at}`));
      server.advance(1000);
    }
  }
  const before = (await server.index.tenantUsage(undefined)).own.bytes;
  expect(before).toBeGreaterThan(1000);
  server.advance(30 * 24 * 3_600_000);

  const later = await server.token({}, { isAdmin: true });
  expect((await postJson(server, later, "/_flywheel/v1/gc", {})).status).toBe(200);

  // Collected NARs stay readable for a grace.
  server.advance(30 * 24 * 3_600_000);
  await server.index.expire(Date.now() + 90 * 24 * 3_600_000, 1000);
  expect((await server.index.tenantUsage(undefined)).own.bytes).toBeLessThanOrEqual(1000);
  const small = await server.index.findView("small");
  expect((await server.index.viewStats(small?.id ?? 0)).paths).toBe(2);
});
