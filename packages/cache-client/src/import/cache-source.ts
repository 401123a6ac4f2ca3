import type { ContentAddress, NarCompression } from "@glorious/nix-store";

import type { PathFacts } from "../path-info.ts";

/** A path as a source has it. */
export interface SourcePath extends PathFacts {
  readonly compression: NarCompression;
  /** SHA-256 of the file, in hex, when the source says one. */
  readonly fileHash: string | undefined;
  readonly fileSize: number | undefined;
  /** Nobody signed it: its content has to be what this says, from which its name follows. */
  readonly provedBy?: ContentAddress | undefined;
  /** Where the file lies; only its source knows how to read that. */
  readonly location: string;
}

/** A binary cache to import from. Nothing of it is believed that {@link SourcePath} facts do not prove. */
export interface CacheSource extends AsyncDisposable {
  /** For people: its address or folder. */
  readonly name: string;
  readonly storeDir: string;
  /**
   * What the source says of a path; `undefined` when it does not have it.
   *
   * @throws {CacheError} when it says something wrong, or nothing after several tries.
   */
  find(storePathHash: string, signal?: AbortSignal): Promise<SourcePath | undefined>;
  /** The file's bytes, unverified. @throws {CacheError} `NOT_FOUND` when there is no file; as `find`. */
  read(path: SourcePath, signal?: AbortSignal): AsyncIterable<Buffer>;
  /**
   * The hashes of all its store paths, in no order, some perhaps twice.
   *
   * @throws {CacheError} `UNSUPPORTED` when it cannot be listed.
   */
  list(signal?: AbortSignal): AsyncIterable<string>;
}
