import { failure, ok, skipped, type Verdict, warning } from "../finding.ts";
import { reasonOf } from "../probe.ts";
import type { ProxyFacts, Snapshot } from "../snapshot.ts";

const DAY_MS = 24 * 3600 * 1000;

/** The host's name leads to an address. */
export function checkLookup({ network, target }: Snapshot): Verdict {
  const { hostname } = new URL(target.server);
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
export function checkConnection({ network, target }: Snapshot): Verdict {
  const { connection } = network;
  const { host } = new URL(target.server);
  if (connection.state === "known") return ok(`connected to ${connection.value}`);
  if (connection.state === "skipped") return skipped(connection.reason);
  if (isBehindProxy(network.proxy)) return skipped("only the proxy reaches it");
  return failure(
    `${host} cannot be connected to: ${connection.problem}`,
    "The server is down, the port is wrong, or a firewall is between.",
    `curl -v -m 10 ${target.server}healthz`,
  );
}

/** The certificate is one that Nix trusts. */
export function checkTls({ network, target, nowMs }: Snapshot): Verdict {
  const { tls } = network;
  if (tls.state === "skipped") return skipped(tls.reason);
  const { host } = new URL(target.server);
  if (tls.state === "failed") {
    return failure(
      `no trusted TLS connection to ${host}: ${tls.problem}`,
      "Nix trusts the authorities in NIX_SSL_CERT_FILE, else in /etc/ssl/certs/ca-certificates.crt.",
      `openssl s_client -connect ${host}${host.includes(":") ? "" : ":443"} -showcerts`,
    );
  }
  const { protocol, validToMs, caFile } = tls.value;
  const until = new Date(validToMs).toISOString();
  if (validToMs - nowMs < 7 * DAY_MS) {
    return warning(
      `the certificate of ${host} ends at ${until}`,
      "Nix stops using the cache then.",
      `openssl s_client -connect ${host}${host.includes(":") ? "" : ":443"} -showcerts`,
    );
  }
  return ok(`${protocol}, trusted by ${caFile ?? "Node's authorities"}, until ${until}`);
}

/** A proxy in the environment lets Nix through. */
export function checkProxy({ network, target }: Snapshot): Verdict {
  const { proxy } = network;
  if (proxy === undefined) return ok("no proxy is in the way");
  const { hostname } = new URL(target.server);
  const remedy = `export no_proxy="$no_proxy,${hostname}"`;
  if (proxy.answer.state === "failed") {
    return failure(
      `the proxy ${proxy.url} does not answer: ${proxy.answer.problem}`,
      `${proxy.variable} sends Nix there for ${hostname}.`,
      remedy,
    );
  }
  if (proxy.answer.state === "skipped") {
    return warning(
      `Nix goes through ${proxy.url}, which was not tried`,
      `${proxy.answer.reason}. ${proxy.variable} says so.`,
      remedy,
    );
  }
  const status = proxy.answer.value;
  if (status === 407 || status >= 500) {
    return failure(
      `the proxy ${proxy.url} answers ${status} for ${hostname}`,
      `${proxy.variable} sends Nix there; ${status === 407 ? "it wants credentials" : "it does not reach the server"}.`,
      remedy,
    );
  }
  return warning(
    `Nix goes through the proxy ${proxy.url}`,
    `${proxy.variable} says so. It answers, but all other checks went to the server directly.`,
    remedy,
  );
}

function isBehindProxy(proxy: ProxyFacts | undefined): boolean {
  return proxy?.answer.state === "known" && proxy.answer.value < 500;
}
