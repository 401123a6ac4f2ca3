import { expect, test } from "vitest";

import { createTestPath } from "./test-path.ts";
import { startTestServer } from "./test-server.ts";
import { pushAttic } from "./uploads.ts";

test("the metrics count requests, hits, misses, refusals and uploads, and name nobody", async () => {
  await using server = await startTestServer();
  await server.createView("acme+ci");
  const token = await server.token({ "acme+ci": ["pull", "push"] });
  const path = await createTestPath("counted");
  await pushAttic(server, token, "acme+ci", path);
  await pushAttic(server, token, "acme+ci", path);
  const damaged = await createTestPath("damaged");
  await pushAttic(server, token, "acme+ci", damaged, { nar_hash: `sha256:${"0".repeat(64)}` });
  await server.send("GET", `/acme+ci/${path.storePathHash}.narinfo`, { token });
  await server.send("GET", `/acme+ci/${path.storePathHash}.narinfo`);
  await server.send("GET", `/acme+ci/${"0".repeat(32)}.narinfo`, { token });
  await server.send("GET", "/nowhere/at/all/really");

  const lines = (): Promise<string[]> =>
    server.send("GET", "/metrics").then((answer) => answer.text.split("\n"));

  await expect
    .poll(lines)
    .toEqual(
      expect.arrayContaining([
        'flywheel_requests_total{method="GET",route="/:view/:hash.narinfo",status="200"} 1',
        'flywheel_requests_total{method="GET",route="none",status="404"} 1',
        'flywheel_cache_reads_total{kind="narinfo",result="hit"} 1',
        'flywheel_cache_reads_total{kind="narinfo",result="refused"} 1',
        'flywheel_cache_reads_total{kind="narinfo",result="absent"} 1',
        'flywheel_uploads_total{result="uploaded"} 1',
        'flywheel_uploads_total{result="deduplicated"} 1',
        'flywheel_uploads_total{result="failed"} 1',
        "flywheel_uploads_running 0",
        "flywheel_index_writes_waiting 0",
        `flywheel_uploaded_nar_bytes_total ${2 * path.nar.length}`,
        expect.stringMatching(/^nodejs_eventloop_lag_p99_seconds /),
        expect.stringMatching(/^flywheel_bytes_total\{direction="in"\} [1-9]/),
        expect.stringMatching(/^flywheel_bytes_total\{direction="out"\} [1-9]/),
      ]),
    );
  const text = (await lines()).join("\n");
  expect(text).not.toContain("acme");
  expect(text).not.toContain(path.storePathHash);
});

test("with metrics.needAdmin only administrators see them", async () => {
  await using server = await startTestServer({ metricsNeedAdmin: "true" });
  const admin = await server.token({}, { isAdmin: true });
  expect((await server.send("GET", "/metrics")).status).toBe(401);
  expect((await server.send("GET", "/metrics", { token: admin })).status).toBe(200);
});

test("how long requests took is told by view: to who may pull, and to Prometheus when names are asked for", async () => {
  await using server = await startTestServer({ metricsNameViews: "true" });
  await server.createView("acme+ci");
  const token = await server.token({ "acme+ci": ["pull", "push"], "made-up": ["pull"] });
  const path = await createTestPath("timed");
  await pushAttic(server, token, "acme+ci", path);
  const narinfo = `/acme+ci/${path.storePathHash}.narinfo`;
  for (const _ of [1, 2]) await server.send("GET", narinfo, { token });
  await server.send("GET", `/acme+ci/${"0".repeat(32)}.narinfo`, { token });
  await server.send("GET", `/made-up/${"0".repeat(32)}.narinfo`, { token });
  await server.send("PUT", "/acme+ci/kv/a", { token, body: Buffer.from("value") });
  await server.send("GET", "/acme+ci/kv/a", { token });
  await server.send("GET", "/acme+ci/kv/b", { token });

  const stats = async (): Promise<unknown> =>
    JSON.parse((await server.send("GET", "/_flywheel/v1/views/acme+ci/stats", { token })).text);

  await expect.poll(stats).toMatchObject({
    latency: { read: { count: 3, atMost: { "60": 3 } }, write: { count: 1, atMost: { "60": 1 } } },
    bazel: { latency: { read: { count: 2 }, write: { count: 1, atMost: { "60": 1 } } } },
  });
  const { text } = await server.send("GET", "/metrics");
  const labels = 'view="acme+ci",plane="nix",direction="read"';
  expect(text).toContain(`flywheel_view_request_seconds_count{${labels}} 3\n`);
  expect(text).toContain(`flywheel_view_request_seconds_bucket{${labels},le="+Inf"} 3\n`);
  expect(text).not.toContain("made-up");
});
