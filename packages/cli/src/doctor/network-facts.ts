import type { Probe } from "./probe.ts";

/** The way to a server, step by step. */
export interface NetworkFacts {
  /** The addresses of the host's name. */
  readonly lookup: Probe<readonly string[]>;
  /** The address that took the connection. */
  readonly connection: Probe<string>;
  readonly tls: Probe<TlsFacts>;
  /** Where curl would send its requests instead. */
  readonly proxy: ProxyFacts | undefined;
}

export interface TlsFacts {
  readonly protocol: string;
  readonly validToMs: number;
  /** The file of authorities that the client trusts, `undefined` for Node's own list. */
  readonly caFile: string | undefined;
}

export interface ProxyFacts {
  readonly variable: string;
  /** Without credentials. */
  readonly url: string;
  /** What came back through it: an HTTP status. */
  readonly answer: Probe<number>;
}
