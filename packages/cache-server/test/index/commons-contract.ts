import { expect, test } from "vitest";

import type { CacheIndex, ViewRecord } from "../../src/index/cache-index.ts";
import type { PrincipalFacts } from "../../src/index/provenance-index.ts";
import { samplePath, storePathHashOf } from "./index-samples.ts";
import { addView, hold, NOW, type OpenIndex, push } from "./index-setup.ts";

const JOB: PrincipalFacts = { principal: "forge:repo/1", trust: "trusted", run: "7", jti: "j" };
const PERSON: PrincipalFacts = { principal: "token:p", trust: "token", jti: "p" };
const HASH = storePathHashOf("a");

async function write(
  index: CacheIndex,
  { id }: ViewRecord,
  writer: PrincipalFacts,
  seed: string,
  changes: Parameters<typeof samplePath>[1] = {},
): Promise<void> {
  await hold(index, id, seed);
  expect(await index.commitPaths(id, [samplePath(seed, changes)], { writer })).toMatchObject({
    kind: "committed",
  });
}

export function describeCommons(open: OpenIndex): void {
  test("new paths of the views asked for are listed in the order of their coming, a page at a time", async () => {
    await using index = await open();
    const [one, two, other] = [
      await addView(index, "one"),
      await addView(index, "two"),
      await addView(index, "other"),
    ];
    await push(index, one.id, "b");
    await push(index, other.id, "c");
    await push(index, two.id, "a");
    const ids = [one.id, two.id];
    const walk = async (from: number, limit: number): Promise<[string[], number]> => {
      const hashes: string[] = [];
      for (let after = from; ;) {
        const page = await index.listNewPaths(ids, { after, limit });
        hashes.push(...page.storePathHashes);
        if (page.last === after) return [hashes, after];
        after = page.last;
      }
    };
    const [hashes, last] = await walk(0, 1);
    expect(hashes).toEqual([storePathHashOf("b"), HASH]);
    expect(await walk(0, 10)).toEqual([hashes, last]);
    expect(await walk(last, 10)).toEqual([[], last]);
    await push(index, one.id, "a");
    expect((await walk(last, 10))[0]).toEqual([HASH]);
  });

  test("only what trusted jobs wrote, and nobody else since, is a voter's", async () => {
    await using index = await open();
    const [job, person, changed, nobody] = [
      await addView(index, "job"),
      await addView(index, "person"),
      await addView(index, "changed"),
      await addView(index, "nobody"),
    ];
    await write(index, job, JOB, "a");
    await write(index, person, PERSON, "a");
    await write(index, changed, JOB, "a");
    await write(index, changed, PERSON, "a", { references: [], createdAtMs: NOW + 5 });
    await push(index, nobody.id, "a");
    const ids = [job, person, changed, nobody].map(({ id }) => id);
    const found = await index.findTrustedPaths(ids, HASH);
    expect(found.map(({ viewId }) => viewId)).toEqual([job.id]);
    await index.revoke({ run: "7" }, { atMs: NOW + 9, createdBy: undefined }, 10);
    expect(await index.findTrustedPaths(ids, HASH)).toEqual([]);
  });

  test("votes stand until they are withdrawn: by a revocation, by another build, not by a collection", async () => {
    await using index = await open();
    const commons = await addView(index, "commons");
    const voters = [await addView(index, "one"), await addView(index, "two")];
    const [one, two] = voters as [ViewRecord, ViewRecord];
    await write(index, one, JOB, "a");
    await write(index, two, { ...JOB, principal: "forge:repo/2", run: "8" }, "a");
    const vote = { voters: [one.id, two.id], atMs: NOW };
    await index.addVotes(commons.id, HASH, vote);
    expect(await index.findVotes(commons.id, HASH)).toBeUndefined();
    await push(index, commons.id, "a", "unasked");
    const states = async (): Promise<unknown> => {
      const found = await index.findVotes(commons.id, HASH);
      return found?.votes.map(({ viewId, state }) => [viewId, state]);
    };
    expect(await states()).toEqual([
      [one.id, "holds"],
      [two.id, "holds"],
    ]);
    expect(await index.listVotes(commons.id, { limit: 10 })).toEqual(
      [
        {
          storePathHash: HASH,
          ca: undefined,
          votes: vote.voters.map((viewId) => ({ viewId, atMs: NOW, state: "holds" })),
        },
        { storePathHash: storePathHashOf("unasked"), ca: undefined, votes: [] },
      ].toSorted((a, b) => (a.storePathHash < b.storePathHash ? -1 : 1)),
    );
    const [first] = await index.listVotes(commons.id, { limit: 1 });
    const rest = await index.listVotes(commons.id, { after: first?.storePathHash ?? "", limit: 9 });
    expect(rest).toHaveLength(1);

    await index.deletePath(one.id, HASH, NOW);
    expect(await states()).toContainEqual([one.id, "holds"]);
    // Revoked later, though the path is there no more.
    const revoked = await index.revoke({ run: "7" }, { atMs: NOW + 9, createdBy: undefined }, 9);
    expect(await states()).toContainEqual([one.id, "withdrawn"]);
    expect(await states()).toContainEqual([two.id, "holds"]);
    await index.liftRevocation(revoked.id, { atMs: NOW + 10, keepsHidden: false });
    expect(await states()).toContainEqual([one.id, "holds"]);
    // Built anew, otherwise.
    const { narHash, fileHash } = samplePath("other");
    await write(index, one, JOB, "other");
    await index.commitPaths(one.id, [samplePath("a", { narHash, fileHash })], { writer: JOB });
    expect(await states()).toContainEqual([one.id, "withdrawn"]);

    await index.deletePath(commons.id, HASH, NOW);
    await push(index, commons.id, "a");
    expect(await states()).toEqual([]);
    expect(await index.checkConsistency()).toEqual([]);
  });
}
