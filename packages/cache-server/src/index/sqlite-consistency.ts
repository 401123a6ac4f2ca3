import type { DatabaseSync } from "node:sqlite";

/** One thing that must hold: a query that answers a sentence for every place where it does not. */
type Check = string;

const TOTALS = [
  ["paths", "(SELECT count(*) FROM paths WHERE view_id = t.view_id AND is_lost = 0)"],
  ["nars", "(SELECT count(*) FROM holdings WHERE view_id = t.view_id AND is_lost = 0)"],
  ...(["nar", "file"] as const).map((kind) => [
    `${kind}_bytes`,
    `(SELECT coalesce(sum(o.${kind}_size), 0) FROM holdings AS h JOIN objects AS o ON o.id = h.object_id
      WHERE h.view_id = t.view_id AND h.is_lost = 0)`,
  ]),
  [
    "other_bytes",
    `(SELECT coalesce(sum(length(body)), 0) FROM documents WHERE view_id = t.view_id)
      + (SELECT coalesce(sum(counted_bytes), 0) FROM uploaded_files WHERE view_id = t.view_id)`,
  ],
] as const;

const CHECKS: readonly Check[] = [
  ...TOTALS.map(
    ([name, count]) => `SELECT printf('the total %s of view %d is %d instead of %d',
        '${name}', t.view_id, t.${name}, ${count}) AS problem
      FROM view_totals AS t WHERE t.${name} <> (${count})`,
  ),
  `SELECT printf('view %d has no totals', id) AS problem FROM views
    WHERE id NOT IN (SELECT view_id FROM view_totals)`,
  `SELECT printf('object %s counts as %s', lower(hex(file_hash)),
      iif(is_referenced, 'referenced', 'unreferenced')) AS problem
    FROM objects WHERE is_referenced <> (
      id IN (SELECT object_id FROM holdings) OR id IN (SELECT object_id FROM paths)
      OR id IN (SELECT object_id FROM uploaded_files))`,
  `SELECT printf('holding %d counts as %s', h.id, iif(h.is_lost, 'lost', 'sound')) AS problem
    FROM holdings AS h JOIN objects AS o ON o.id = h.object_id
    WHERE h.is_lost <> (h.revocation_id IS NOT NULL OR o.quarantined_at_ms IS NOT NULL)`,
  `SELECT printf('path %s of view %d counts as %s', p.store_path_hash, p.view_id,
      iif(p.is_lost, 'lost', 'sound')) AS problem
    FROM paths AS p JOIN objects AS o ON o.id = p.object_id JOIN holdings AS h ON h.id = p.holding_id
    WHERE p.is_lost <> (p.revocation_id IS NOT NULL OR h.object_id <> p.object_id
      OR o.quarantined_at_ms IS NOT NULL)`,
  `SELECT printf('path %s of view %d is tied to a NAR of view %d', p.store_path_hash, p.view_id,
      h.view_id) AS problem
    FROM paths AS p JOIN holdings AS h ON h.id = p.holding_id WHERE h.view_id <> p.view_id`,
  `SELECT printf('holding %d %s', h.id,
      iif(h.expires_at_ms IS NULL, 'never expires without a path', 'expires under its path')) AS problem
    FROM holdings AS h
    WHERE (h.expires_at_ms IS NULL) <> (h.id IN (SELECT holding_id FROM paths))`,
  `SELECT printf('path %s of view %d has no access time', store_path_hash, view_id) AS problem
    FROM paths WHERE id NOT IN (SELECT path_id FROM path_accesses)`,
  // Both directions at once: what is told twice is in the text and in the table.
  `SELECT printf('reference of path %d to %s is in %s only', path_id, reference_hash,
      iif(max(is_row), 'the table', 'the text')) AS problem
    FROM (
      SELECT view_id, reference_hash, path_id, 1 AS is_row FROM path_references
      UNION ALL
      SELECT DISTINCT p.view_id, substr(r.value, 1, 32), p.id, 0
      FROM paths AS p, json_each(p.reference_names) AS r
      WHERE substr(r.value, 1, 32) <> p.store_path_hash)
    GROUP BY view_id, reference_hash, path_id HAVING count(*) <> 2`,
  `SELECT printf('the listing %s of view %d is of no NAR it holds', d.name, d.view_id) AS problem
    FROM documents AS d WHERE d.kind = 'listing' AND NOT EXISTS (
      SELECT 1 FROM holdings WHERE view_id = d.view_id AND nar_hash = unhex(d.name))`,
];

/** How many sentences one check may give. */
const MAX_PROBLEMS = 100;

/** Reads the whole database and says what is wrong with it. */
export function findInconsistencies(database: DatabaseSync): string[] {
  // One transaction, so that every check sees the same data, whatever is written meanwhile.
  database.exec("BEGIN");
  try {
    return [
      ...read(database, `SELECT integrity_check AS problem FROM pragma_integrity_check`).filter(
        (problem) => problem !== "ok",
      ),
      ...read(
        database,
        `SELECT printf('row %s of %s names a missing row of %s', rowid, "table", parent) AS problem
          FROM pragma_foreign_key_check`,
      ),
      ...CHECKS.flatMap((check) => read(database, check)),
    ];
  } finally {
    database.exec("COMMIT");
  }
}

function read(database: DatabaseSync, sql: string): string[] {
  return database
    .prepare(`${sql} LIMIT ${MAX_PROBLEMS}`)
    .all()
    .map(({ problem }) => String(problem));
}
