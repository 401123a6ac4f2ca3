/** The files of a static binary cache, wherever they lie. */
export interface CacheFiles extends AsyncDisposable {
  /** For people: an address or a folder. */
  readonly name: string;
  /**
   * A small file, whole; `undefined` when there is none.
   *
   * @throws {CacheError} `TOO_LARGE` beyond `maxBytes`; what the network or the disk says.
   */
  readText(
    file: string,
    options: { readonly maxBytes: number; readonly signal?: AbortSignal | undefined },
  ): Promise<string | undefined>;
  /**
   * A large file, piece by piece; broken connections are mended on the way.
   *
   * @param location - As a narinfo's `URL` has it.
   * @throws {CacheError} `NOT_FOUND` when there is none; what the network or the disk says.
   */
  stream(location: string, signal: AbortSignal | undefined): AsyncIterable<Buffer>;
  /** @throws {CacheError} `UNSUPPORTED` when nothing says what there is. */
  listHashes(signal: AbortSignal | undefined): AsyncIterable<string>;
}
