import { parseNarInfo } from "@glorious/nix-store";

import type { SettingName } from "../../src/config/settings.ts";
import type { UpstreamRecord } from "../../src/index/upstream-index.ts";
import { type LogLine, startTestServer, type TestParts, type TestServer } from "../test-server.ts";
import { type FakeUpstream, startFakeUpstream } from "./fake-upstream.ts";

/** A server with a public view `main` that reads through to a fake upstream. */
export interface ReadThrough extends AsyncDisposable {
  readonly server: TestServer;
  readonly upstream: FakeUpstream;
  readonly record: UpstreamRecord;
  /** The text of a narinfo of `main`; `undefined` for 404. */
  narInfo(storePathHash: string): Promise<string | undefined>;
  /** The file that a narinfo of `main` names. */
  nar(narInfo: string): Promise<Buffer>;
  /** What was logged of upstreams: their reasons. */
  reasons(): unknown[];
}

/** Adds an upstream with the fake's address and key to a view. */
export async function attach(
  server: TestServer,
  upstream: Pick<FakeUpstream, "url" | "publicKey">,
  viewName: string,
  more: { readonly name?: string; readonly priority?: number } = {},
): Promise<UpstreamRecord> {
  const view = await server.index.findView(viewName);
  if (view === undefined) throw new Error(`There is no view ${viewName}`);
  const record = await server.index.createUpstream({
    name: more.name ?? "fake",
    url: upstream.url,
    publicKeys: [upstream.publicKey],
    authorization: undefined,
    onlyViewId: undefined,
    storeDir: "/nix/store",
    priority: more.priority ?? 40,
    maxSizeBytes: undefined,
    createdAtMs: Date.now(),
  });
  const before = await server.index.upstreamsOfViews([view.id]);
  await server.index.setViewUpstreams(view.id, [...before.map(({ id }) => id), record.id]);
  return record;
}

export async function startReadThrough(
  settings: Partial<Record<SettingName, string>> = {},
  parts: TestParts = {},
): Promise<ReadThrough> {
  await using opened = new AsyncDisposableStack();
  const upstream = opened.use(await startFakeUpstream());
  const server = opened.use(await startTestServer(settings, parts));
  await server.createView("main", { isPublic: true });
  const record = await attach(server, upstream, "main");
  const owned = opened.move();
  return {
    server,
    upstream,
    record,
    async narInfo(storePathHash) {
      const answer = await server.send("GET", `/main/${storePathHash}.narinfo`);
      if (answer.status === 404) return undefined;
      if (answer.status !== 200) throw new Error(`${answer.status} ${answer.text}`);
      return answer.text;
    },
    async nar(narInfo) {
      const answer = await server.send("GET", `/main/${parseNarInfo(narInfo).url}`);
      if (answer.status !== 200) throw new Error(`${answer.status} ${answer.text}`);
      return answer.body;
    },
    reasons: () => faultsOf(server.logs),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function faultsOf(logs: readonly LogLine[]): unknown[] {
  return logs
    .filter(({ message }) => message === "an upstream gave nothing to believe")
    .map(({ fields }) => fields["reason"]);
}
