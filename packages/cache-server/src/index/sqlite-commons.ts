import type { DatabaseSync } from "node:sqlite";

import type { PathRecord } from "./cache-index.ts";
import type { CommonsVote, CommonsVotes } from "./commons-index.ts";
import { prepareQuery, type Query } from "./sqlite-connection.ts";
import { type PathRow, SELECT_PATH, toPathRecord, viewIsThere } from "./sqlite-rows.ts";

/** Who wrote a path `p` of a view since it was made there. */
const WRITERS = `SELECT 1 FROM entries AS e JOIN principals AS w ON w.id = e.principal_id
  WHERE e.kind = 'path' AND e.name = p.store_path_hash AND e.view_id = p.view_id
    AND e.written_at_ms >= p.created_at_ms`;

/** A revocation in force that names the writer `w` of an entry `e`. */
const REVOKED = `SELECT 1 FROM revocations AS r WHERE r.lifted_at_ms IS NULL
  AND (r.principal IS NULL OR r.principal = w.principal) AND (r.run IS NULL OR r.run = w.run)
  AND (r.jti IS NULL OR r.jti = w.jti) AND (r.since_ms IS NULL OR e.written_at_ms >= r.since_ms)
  AND (coalesce(r.principal, r.run, r.jti) IS NOT NULL OR e.written_at_ms <= r.created_at_ms)`;

const SELECT_VOTES = `
  SELECT p.store_path_hash AS storePathHash, p.ca, c.voter_id AS viewId, c.agreed_at_ms AS atMs,
    CASE WHEN v.id IS NULL THEN EXISTS (
        SELECT 1 FROM entries AS e JOIN principals AS w ON w.id = e.principal_id
        WHERE e.kind = 'path' AND e.name = c.store_path_hash AND e.view_id = c.voter_id AND EXISTS (${REVOKED}))
      ELSE v.revocation_id IS NOT NULL OR o.nar_hash <> mine.nar_hash
        OR v.reference_names <> p.reference_names END AS isWithdrawn
  FROM paths AS p
    JOIN objects AS mine ON mine.id = p.object_id
    LEFT JOIN commons_votes AS c ON c.view_id = p.view_id AND c.store_path_hash = p.store_path_hash
    LEFT JOIN paths AS v ON v.view_id = c.voter_id AND v.store_path_hash = c.store_path_hash
    LEFT JOIN objects AS o ON o.id = v.object_id`;

interface VoteRow {
  readonly storePathHash: string;
  readonly ca: string | null;
  readonly viewId: number | null;
  readonly atMs: number | null;
  readonly isWithdrawn: number;
}

/** The reading half of the commons. */
export class SqliteCommonsReads {
  constructor(database: DatabaseSync) {
    const prepare = <Row>(sql: string): Query<Row> => prepareQuery<Row>(database, sql);
    // Of all views: a page of those asked for alone might go through the whole table to find nothing.
    this.#listNewPaths = prepare(`
      SELECT id, view_id AS viewId, store_path_hash AS hash FROM paths
      WHERE id > ?1 ORDER BY id LIMIT ?2`);
    this.#findTrustedPath = prepare(`
      ${SELECT_PATH} WHERE p.view_id = ?1 AND p.store_path_hash = ?2 AND p.is_lost = 0
        AND ${viewIsThere("?1")} AND EXISTS (${WRITERS} AND w.facts ->> 'trust' = 'trusted')
        AND NOT EXISTS (${WRITERS} AND w.facts ->> 'trust' <> 'trusted' AND e.adopted_from IS NULL)`);
    this.#listVotes = prepare(`
      ${SELECT_VOTES} WHERE p.view_id = ?1 AND p.is_lost = 0 AND p.store_path_hash IN (
        SELECT store_path_hash FROM paths WHERE view_id = ?1 AND store_path_hash > ?2 AND is_lost = 0
        ORDER BY store_path_hash LIMIT ?3)
      ORDER BY p.store_path_hash, c.agreed_at_ms, c.voter_id`);
    this.#findVotes = prepare(`
      ${SELECT_VOTES} WHERE p.view_id = ?1 AND p.store_path_hash = ?2 AND p.is_lost = 0
      ORDER BY c.agreed_at_ms, c.voter_id`);
  }

  readonly #listNewPaths: Query<{
    readonly id: number;
    readonly viewId: number;
    readonly hash: string;
  }>;
  listNewPaths(
    viewIds: readonly number[],
    page: { readonly after: number; readonly limit: number },
  ): { readonly storePathHashes: readonly string[]; readonly last: number } {
    const rows = this.#listNewPaths.all(page.after, page.limit);
    const asked = rows.filter(({ viewId }) => viewIds.includes(viewId));
    return {
      storePathHashes: [...new Set(asked.map(({ hash }) => hash))],
      last: rows.at(-1)?.id ?? page.after,
    };
  }

  readonly #findTrustedPath: Query<PathRow>;
  findTrustedPaths(viewIds: readonly number[], storePathHash: string): PathRecord[] {
    return viewIds
      .map((viewId) => this.#findTrustedPath.get(viewId, storePathHash))
      .filter((row) => row !== undefined)
      .map(toPathRecord);
  }

  readonly #listVotes: Query<VoteRow>;
  listVotes(
    commonsId: number,
    page: { readonly after?: string; readonly limit: number },
  ): CommonsVotes[] {
    return toVotes(this.#listVotes.all(commonsId, page.after ?? "", page.limit));
  }

  readonly #findVotes: Query<VoteRow>;
  findVotes(commonsId: number, storePathHash: string): CommonsVotes | undefined {
    return toVotes(this.#findVotes.all(commonsId, storePathHash))[0];
  }
}

/** The writing half. */
export class SqliteCommonsWrites {
  constructor(database: DatabaseSync) {
    this.#addVote = prepareQuery(
      database,
      `INSERT INTO commons_votes (view_id, store_path_hash, voter_id, agreed_at_ms)
       SELECT ?1, ?2, value, ?4 FROM json_each(?3) WHERE ${viewIsThere("?1")}
       ON CONFLICT DO NOTHING`,
    );
  }

  readonly #addVote: Query<never>;
  addVotes(
    commonsId: number,
    storePathHash: string,
    vote: { readonly voters: readonly number[]; readonly atMs: number },
  ): void {
    this.#addVote.run(commonsId, storePathHash, JSON.stringify(vote.voters), vote.atMs);
  }
}

function toVotes(rows: readonly VoteRow[]): CommonsVotes[] {
  const found = new Map<string, { ca: string | undefined; votes: CommonsVote[] }>();
  for (const { storePathHash, ca, viewId, atMs, isWithdrawn } of rows) {
    let path = found.get(storePathHash);
    if (path === undefined) found.set(storePathHash, (path = { ca: ca ?? undefined, votes: [] }));
    if (viewId === null || atMs === null) continue;
    path.votes.push({ viewId, atMs, state: isWithdrawn === 1 ? "withdrawn" : "holds" });
  }
  return [...found].map(([storePathHash, path]) => ({ storePathHash, ...path }));
}
