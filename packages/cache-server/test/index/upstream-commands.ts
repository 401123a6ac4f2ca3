import fc from "fast-check";
import { expect } from "vitest";

import type { CacheIndex } from "../../src/index/cache-index.ts";
import type { NewUpstream, UpstreamPath } from "../../src/index/upstream-index.ts";
import {
  agree,
  type Command,
  hiddenViewName,
  outcomeOf,
  PATH_NAMES,
  pathName,
  step,
  UPSTREAM_NAMES,
  viewName,
} from "./command-step.ts";
import type { IndexModel } from "./index-model.ts";
import { sha256Of, storePathHashOf } from "./index-samples.ts";

const KEYS = ["k-1:AAAA", "k-2:BBBB"];

const upstreamName = fc.constantFrom(...UPSTREAM_NAMES);
const publicKeys = fc.subarray([...KEYS], { minLength: 1 });
const priority = fc.constantFrom(10, 40);

const createUpstream = fc
  .record({ name: upstreamName, publicKeys, priority, owner: fc.option(viewName, { freq: 3 }) })
  .map(({ name, owner, ...facts }): Command => ({
    check: () => true,
    toString: () => `createUpstream ${name} ${JSON.stringify(facts)} of ${owner ?? "all"}`,
    async run(model, index) {
      const upstream: NewUpstream = {
        name,
        url: `https://${name}.example/`,
        authorization: undefined,
        onlyViewId: owner === null ? undefined : model.idOf(owner),
        storeDir: "/nix/store",
        maxSizeBytes: undefined,
        createdAtMs: model.nowMs,
        ...facts,
      };
      const created = await outcomeOf(() => index.createUpstream(upstream));
      const record = await index.findUpstream(name);
      const expected = await outcomeOf(() => {
        model.upstreams.requireCreatable(upstream);
        return { ...upstream, id: record?.id, viewId: record?.viewId };
      });
      agree(created, expected);
      if (record === undefined || model.upstreams.upstreams.has(name)) return;
      agree(model.knewView(record.viewId), false);
      model.upstreams.add(record);
    },
  }));

const updateUpstream = fc
  .record({
    name: upstreamName,
    changes: fc.record(
      { publicKeys, priority, maxSizeBytes: fc.constantFrom(9, "default" as const) },
      { requiredKeys: [] },
    ),
  })
  .map(({ name, changes }): Command => ({
    check: () => true,
    toString: () => `updateUpstream ${name} ${JSON.stringify(changes)}`,
    async run(model, index) {
      const updated = await index.updateUpstream(name, changes);
      const before = model.upstreams.upstreams.get(name);
      agree(updated === undefined, before === undefined);
      if (updated === undefined || before === undefined) return;
      agree(updated.viewId !== before.viewId, model.upstreams.losesKey(name, changes));
      if (updated.viewId !== before.viewId) agree(model.knewView(updated.viewId), false);
      model.upstreams.update(name, changes, updated.viewId);
      agree(updated, model.upstreams.upstreams.get(name));
    },
  }));

const deleteUpstream = upstreamName.map((name) =>
  step(
    `deleteUpstream ${name}`,
    (model) => model.upstreams.delete(name),
    (index) => index.deleteUpstream(name),
  ),
);

const setViewUpstreams = fc
  .record({ view: viewName, names: fc.array(upstreamName, { maxLength: 3 }) })
  .map(({ view, names }) => {
    const ids = (model: IndexModel): number[] =>
      names.map((name) => model.upstreams.upstreams.get(name)?.id ?? 1_000_000);
    return step(
      `setViewUpstreams ${view} ${names.join(" ")}`,
      (model) => model.upstreams.setViewUpstreams(model.idOf(view), ids(model)),
      (index, model) => index.setViewUpstreams(model.idOf(view), ids(model)),
    );
  });

const putUpstreamPaths = fc
  .array(
    fc.record({ name: upstreamName, path: pathName, hasFileHash: fc.boolean(), agoMs: fc.nat(20) }),
    { minLength: 1, maxLength: 4 },
  )
  .map((answers) => {
    const paths = (model: IndexModel): UpstreamPath[] =>
      answers.map(({ name, path, hasFileHash, agoMs }) => ({
        hiddenViewId: model.idOf(hiddenViewName(name)),
        storePathHash: storePathHashOf(path),
        narInfo: `the narinfo of ${path} in ${name}, ${agoMs}`,
        fileHash: hasFileHash ? fileHashOf(path) : undefined,
        narHash: sha256Of(`nar ${path}`),
        references: [`${storePathHashOf("glibc")}-glibc`],
        checkedAtMs: model.nowMs - agoMs,
      }));
    return step(
      `putUpstreamPaths ${JSON.stringify(answers)}`,
      (model) => model.upstreams.putPaths(paths(model)),
      (index, model) => index.putUpstreamPaths(paths(model)),
    );
  });

const removeUpstreamPath = fc.record({ name: upstreamName, path: pathName }).map(({ name, path }) =>
  step(
    `removeUpstreamPath ${name} ${path}`,
    (model) => model.upstreams.removePath(model.idOf(hiddenViewName(name)), storePathHashOf(path)),
    (index, model) =>
      index.removeUpstreamPath(model.idOf(hiddenViewName(name)), storePathHashOf(path)),
  ),
);

const trimUpstreamPaths = fc.nat(30).map((ageMs) =>
  step(
    `trimUpstreamPaths older than ${ageMs} ms`,
    (model) => model.upstreams.trim(model.nowMs - ageMs),
    (index, model) => index.trimUpstreamPaths(model.nowMs - ageMs, 1_000_000, 1_000_000),
  ),
);

export const upstreamCommands: readonly fc.Arbitrary<Command>[] = [
  createUpstream,
  createUpstream,
  updateUpstream,
  deleteUpstream,
  setViewUpstreams,
  setViewUpstreams,
  putUpstreamPaths,
  putUpstreamPaths,
  removeUpstreamPath,
  trimUpstreamPaths,
];

/** Asks the index for all that it knows of upstreams. */
export async function inspectUpstreams(
  model: IndexModel,
  index: CacheIndex,
  ids: readonly number[],
): Promise<void> {
  const { upstreams } = model;
  const views = await index.listViews();
  expect(new Set(views.map(({ name }) => name))).toEqual(new Set(model.views.keys()));
  for (const name of UPSTREAM_NAMES) {
    const upstream = upstreams.upstreams.get(name);
    expect(await index.findUpstream(name)).toEqual(upstream);
    expect(await index.findView(hiddenViewName(name))).toBeUndefined();
    if (upstream === undefined) continue;
    const having = await index.viewsOfUpstream(upstream.id);
    expect(new Set(having.map((view) => model.idOf(view)))).toEqual(
      new Set(upstreams.viewsOf(upstream.id)),
    );
  }
  const names = [...upstreams.upstreams.keys()].sort();
  expect((await index.listUpstreams()).map(({ name }) => name)).toEqual(names);
  for (const chain of [...ids.map((id) => [id]), ids, ids.toReversed()]) {
    expect(await index.upstreamsOfViews(chain)).toEqual(upstreams.upstreamsOfViews(chain));
    const found = await index.findUpstreamPaths(chain, PATH_NAMES.map(storePathHashOf));
    expect(new Set(found)).toEqual(new Set(upstreams.findPaths(chain)));
    for (const name of PATH_NAMES) {
      const file = await index.findUpstreamFile(chain, fileHashOf(name));
      expect(file).toEqual(upstreams.findFile(chain, fileHashOf(name)));
    }
  }
}

function fileHashOf(path: string): string {
  return sha256Of(`upstream's file of ${path}`);
}
