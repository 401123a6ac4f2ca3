import { lookup } from "node:dns/promises";
import { request } from "node:http";
import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";

import { formatDurationMs } from "@glorious/core";

import { describeNetworkError } from "./network-error.ts";
import type { NetworkFacts, TlsFacts } from "./network-facts.ts";
import { failed, known, notTried, type Probe } from "./probe.ts";
import { chooseProxy, type ProxyChoice, showProxy } from "./proxy.ts";

/** What {@link gatherNetwork} needs. */
export interface NetworkProbe {
  readonly url: URL;
  readonly timeoutMs: number;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The authorities that the client trusts, and where they stand. */
  readonly ca: string | undefined;
  readonly caFile: string | undefined;
}

/** Takes the way to a server step by step, each step only when the one before succeeded. */
export async function gatherNetwork(probe: NetworkProbe): Promise<NetworkFacts> {
  const { url, env } = probe;
  const choice = chooseProxy(url, env);
  const proxy =
    choice === undefined
      ? undefined
      : {
          variable: choice.variable,
          url: showProxy(choice),
          answer: await askThroughProxy(choice, probe),
        };
  const found = await lookUp(probe);
  if (found.state !== "known") {
    const later = notTried("the host was not found");
    return { lookup: found, connection: later, tls: later, proxy };
  }
  const connection = await tryTcp(probe);
  const tls =
    connection.state !== "known"
      ? notTried("there is no connection")
      : url.protocol === "https:"
        ? await tryTls(probe)
        : notTried("the address is http: nothing is encrypted");
  return { lookup: found, connection, tls, proxy };
}

/** Host and port as sockets take them. */
function endpointOf(url: URL): { readonly host: string; readonly port: number } {
  const fallback = url.protocol === "https:" ? 443 : 80;
  return {
    host: url.hostname.replace(/^\[(.*)\]$/, "$1"),
    port: url.port === "" ? fallback : Number(url.port),
  };
}

async function lookUp({ url, timeoutMs }: NetworkProbe): Promise<Probe<readonly string[]>> {
  const { host } = endpointOf(url);
  const { promise, resolve } = Promise.withResolvers<Probe<never>>();
  const waited = formatDurationMs(timeoutMs);
  const timer = setTimeout(() => {
    resolve(failed(`the name server was silent for ${waited}`));
  }, timeoutMs);
  try {
    const addresses = lookup(host, { all: true }).then(
      (found) => known(found.map(({ address }) => address)),
      (error: unknown) => failed(describeNetworkError(error)),
    );
    return await Promise.race([addresses, promise]);
  } finally {
    clearTimeout(timer);
  }
}

function tryTcp({ url, timeoutMs }: NetworkProbe): Promise<Probe<string>> {
  const { host, port } = endpointOf(url);
  const socket = connectTcp({ host, port });
  return settle(socket, timeoutMs, "connect", () =>
    known(`${socket.remoteAddress ?? host} port ${port}`),
  );
}

function tryTls({ url, timeoutMs, ca, caFile }: NetworkProbe): Promise<Probe<TlsFacts>> {
  const { host, port } = endpointOf(url);
  const socket = connectTls({
    host,
    port,
    // A bare address is no name to ask for.
    ...(/^[\d.]+$|:/.test(host) ? {} : { servername: host }),
    ...(ca === undefined ? {} : { ca }),
  });
  return settle(socket, timeoutMs, "secureConnect", () =>
    known({
      protocol: socket.getProtocol() ?? "TLS",
      validToMs: Date.parse(socket.getPeerCertificate().valid_to),
      caFile: ca === undefined ? undefined : caFile,
    }),
  );
}

function settle<T>(
  socket: Socket,
  timeoutMs: number,
  event: string,
  read: () => Probe<T>,
): Promise<Probe<T>> {
  const { promise, resolve } = Promise.withResolvers<Probe<T>>();
  socket.setTimeout(timeoutMs, () => {
    resolve(failed(`there was no answer for ${formatDurationMs(timeoutMs)}`));
    socket.destroy();
  });
  socket.once(event, () => {
    resolve(read());
    socket.destroy();
  });
  socket.on("error", (error) => {
    resolve(failed(describeNetworkError(error)));
  });
  return promise;
}

/** Sends what curl sends to an HTTP proxy: the whole address, or CONNECT for https. */
function askThroughProxy(
  { url: proxy }: ProxyChoice,
  { url, timeoutMs }: NetworkProbe,
): Promise<Probe<number>> {
  if (proxy.protocol !== "http:") {
    return Promise.resolve(notTried(`a proxy of the kind ${proxy.protocol} is not tried`));
  }
  const { host, port } = endpointOf(url);
  const isSecure = url.protocol === "https:";
  const { promise, resolve } = Promise.withResolvers<Probe<number>>();
  const user = decodeURIComponent(`${proxy.username}:${proxy.password}`);
  const outgoing = request({
    ...endpointOf(proxy),
    agent: false,
    timeout: timeoutMs,
    method: isSecure ? "CONNECT" : "GET",
    path: isSecure ? `${host}:${port}` : url.href,
    headers: {
      host: url.host,
      ...(user === ":"
        ? {}
        : { "proxy-authorization": `Basic ${Buffer.from(user).toString("base64")}` }),
    },
  });
  outgoing.on("timeout", () => {
    resolve(failed(`it was silent for ${formatDurationMs(timeoutMs)}`));
    outgoing.destroy();
  });
  outgoing.on("error", (error) => {
    resolve(failed(describeNetworkError(error)));
  });
  outgoing.on("response", (response) => {
    resolve(known(response.statusCode ?? 0));
    outgoing.destroy();
  });
  outgoing.on("connect", (response, socket) => {
    resolve(known(response.statusCode ?? 0));
    socket.destroy();
  });
  outgoing.end();
  return promise;
}
