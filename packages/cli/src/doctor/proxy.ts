type Environment = Readonly<Record<string, string | undefined>>;

/** A proxy that curl, and so Nix, would use. */
export interface ProxyChoice {
  /** The variable that names it. */
  readonly variable: string;
  readonly url: URL;
}

/**
 * The proxy of an address by curl's rules: `http_proxy` counts in lower case only, `all_proxy` stands in,
 * `no_proxy` lists hosts and domains that are reached directly.
 *
 * @see https://everything.curl.dev/usingcurl/proxies/env.html
 */
export function chooseProxy(target: URL, env: Environment): ProxyChoice | undefined {
  const isSecure = target.protocol === "https:";
  const names = isSecure ? ["https_proxy", "HTTPS_PROXY"] : ["http_proxy"];
  const variable = [...names, "all_proxy", "ALL_PROXY"].find((name) => (env[name] ?? "") !== "");
  if (variable === undefined || isExcepted(target.hostname, env)) return undefined;
  const text = env[variable] ?? "";
  const url = URL.parse(text.includes("://") ? text : `http://${text}`);
  return url === null ? undefined : { variable, url };
}

function isExcepted(hostname: string, env: Environment): boolean {
  const host = hostname.replace(/^\[(.*)\]$/, "$1").toLowerCase();
  const entries = (env["no_proxy"] ?? env["NO_PROXY"] ?? "").split(/[\s,]+/);
  return entries.some((entry) => {
    if (entry === "*") return true;
    const domain = entry
      .replace(/^\./, "")
      .replace(/^\[(.*)\]$/, "$1")
      .toLowerCase();
    return domain !== "" && (host === domain || host.endsWith(`.${domain}`));
  });
}

/** A proxy's address without its credentials. */
export function showProxy({ url }: ProxyChoice): string {
  return `${url.protocol}//${url.host}`;
}
