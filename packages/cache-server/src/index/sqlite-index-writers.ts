import type { DatabaseSync } from "node:sqlite";

import { SqliteCommonsWrites } from "./sqlite-commons.ts";
import { SqliteHousekeepingWrites } from "./sqlite-housekeeping.ts";
import { SqlitePartUploadWrites } from "./sqlite-part-uploads.ts";
import { SqliteProvenanceWrites } from "./sqlite-provenance.ts";
import { SqliteRevocation } from "./sqlite-revocation.ts";
import { SqliteUpstreamWrites } from "./sqlite-upstreams.ts";
import { moduleBeside } from "./sqlite-writer.ts";
import { SqliteWrites } from "./sqlite-writes.ts";

/** Every write of the index. */
export type Writes = Pick<SqliteWrites, keyof SqliteWrites> &
  Pick<SqliteHousekeepingWrites, keyof SqliteHousekeepingWrites> &
  Pick<SqlitePartUploadWrites, keyof SqlitePartUploadWrites> &
  Pick<SqliteProvenanceWrites, keyof SqliteProvenanceWrites> &
  Pick<SqliteRevocation, keyof SqliteRevocation> &
  Pick<SqliteUpstreamWrites, keyof SqliteUpstreamWrites> &
  Pick<SqliteCommonsWrites, keyof SqliteCommonsWrites>;

/** The names of the writes. */
export type WriteMethod = keyof Writes;

/** This module's address, for the writer thread. */
export const INDEX_WRITERS: string = moduleBeside("sqlite-index-writers", import.meta.url);

/** The writers of the index, for the thread or the connection that runs its batches. */
export function createWriters(database: DatabaseSync): readonly object[] {
  return [
    new SqliteWrites(database),
    new SqliteHousekeepingWrites(database),
    new SqlitePartUploadWrites(database),
    new SqliteProvenanceWrites(database),
    new SqliteRevocation(database),
    new SqliteUpstreamWrites(database),
    new SqliteCommonsWrites(database),
  ];
}
