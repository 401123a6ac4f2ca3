import { failure, ok, skipped, type Verdict, warning } from "./finding.ts";
import type { NetworkFacts, ProxyFacts } from "./network-facts.ts";
import { reasonOf } from "./probe.ts";

const DAY_MS = 24 * 3600 * 1000;

/** A way to a server, and whose it is. */
export interface Way {
  readonly network: NetworkFacts;
  /** Where it leads. */
  readonly url: URL;
  /** Who takes it, such as `Nix`. */
  readonly client: string;
  /** Which authorities the client trusts, in a sentence. */
  readonly trusts: string;
  /** What the client does when the certificate has ended, in a sentence. */
  readonly consequence: string;
  /** The command that shows why there is no connection. */
  readonly remedy: string;
  readonly nowMs: number;
}

/** The host's name leads to an address. */
export function checkLookup({ network, url }: Way): Verdict {
  const { hostname } = url;
  const { lookup } = network;
  if (lookup.state === "known") return ok(`${hostname} is ${lookup.value.join(", ")}`);
  if (isBehindProxy(network.proxy)) return skipped("the proxy looks it up");
  return failure(
    `the host ${hostname} is not found: ${reasonOf(lookup)}`,
    "The name is wrong, or this machine's name server does not know it.",
    `getent hosts ${hostname}`,
  );
}

/** Something takes the connection. */
export function checkConnection({ network, url, remedy }: Way): Verdict {
  const { connection } = network;
  const { host } = url;
  if (connection.state === "known") return ok(`connected to ${connection.value}`);
  if (connection.state === "skipped") return skipped(connection.reason);
  if (isBehindProxy(network.proxy)) return skipped("only the proxy reaches it");
  return failure(
    `${host} cannot be connected to: ${connection.problem}`,
    "The server is down, the port is wrong, or a firewall is between.",
    remedy,
  );
}

/** The certificate is one that the client trusts. */
export function checkTls({ network, url, trusts, consequence, nowMs }: Way): Verdict {
  const { tls } = network;
  if (tls.state === "skipped") return skipped(tls.reason);
  const { host } = url;
  if (tls.state === "failed") {
    return failure(
      `no trusted TLS connection to ${host}: ${tls.problem}`,
      trusts,
      `openssl s_client -connect ${host}${host.includes(":") ? "" : ":443"} -showcerts`,
    );
  }
  const { protocol, validToMs, caFile } = tls.value;
  const until = new Date(validToMs).toISOString();
  if (validToMs - nowMs < 7 * DAY_MS) {
    return warning(
      `the certificate of ${host} ends at ${until}`,
      consequence,
      `openssl s_client -connect ${host}${host.includes(":") ? "" : ":443"} -showcerts`,
    );
  }
  return ok(`${protocol}, trusted by ${caFile ?? "Node's authorities"}, until ${until}`);
}

/** A proxy in the environment lets the client through. */
export function checkProxy({ network, url, client }: Way): Verdict {
  const { proxy } = network;
  if (proxy === undefined) return ok("no proxy is in the way");
  const { hostname } = url;
  const remedy = `export no_proxy="$no_proxy,${hostname}"`;
  if (proxy.answer.state === "failed") {
    return failure(
      `the proxy ${proxy.url} does not answer: ${proxy.answer.problem}`,
      `${proxy.variable} sends ${client} there for ${hostname}.`,
      remedy,
    );
  }
  if (proxy.answer.state === "skipped") {
    return warning(
      `${client} goes through ${proxy.url}, which was not tried`,
      `${proxy.answer.reason}. ${proxy.variable} says so.`,
      remedy,
    );
  }
  const status = proxy.answer.value;
  if (status === 407 || status >= 500) {
    return failure(
      `the proxy ${proxy.url} answers ${status} for ${hostname}`,
      `${proxy.variable} sends ${client} there; ${status === 407 ? "it wants credentials" : "it does not reach the server"}.`,
      remedy,
    );
  }
  return warning(
    `${client} goes through the proxy ${proxy.url}`,
    `${proxy.variable} says so. It answers, but all other checks went to the server directly.`,
    remedy,
  );
}

function isBehindProxy(proxy: ProxyFacts | undefined): boolean {
  return proxy?.answer.state === "known" && proxy.answer.value < 500;
}
