/** One answer over HTTP. */
export interface Answer {
  readonly status: number;
  readonly body: string;
  /** The clock of whoever answered. */
  readonly dateMs: number | undefined;
  /** Our clock in the middle of the exchange. */
  readonly atMs: number;
}
