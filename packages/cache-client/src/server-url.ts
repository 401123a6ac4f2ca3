import { CacheError } from "@glorious/core";

/**
 * Parses the address of a cache server and gives it the trailing slash that joining needs: without
 * one, `new URL` would drop the last segment of `https://host/prefix`.
 *
 * @throws {CacheError} `INVALID` when it is no http(s) address, or carries credentials, which would
 * end up in messages and process lists.
 */
export function parseServerUrl(text: string): URL {
  const url = URL.parse(text.trim());
  if (url === null || (url.protocol !== "http:" && url.protocol !== "https:")) {
    throw new CacheError(
      "INVALID",
      `${JSON.stringify(withoutCredentials(text))} is no server address`,
      {
        hint: "Write it with its scheme, such as https://cache.example.org or http://127.0.0.1:8080.",
      },
    );
  }
  if (url.username !== "" || url.password !== "") {
    throw new CacheError("INVALID", `The server address of ${url.host} carries credentials`, {
      hint: "Leave them out of the address and pass the token on its own.",
    });
  }
  url.search = "";
  url.hash = "";
  if (!url.pathname.endsWith("/")) url.pathname += "/";
  return url;
}

function withoutCredentials(text: string): string {
  return text.replace(/\/\/[^/@]*@/, "//");
}

/** Where a server wants to be called, and why we may not follow it there. */
export interface Endpoint {
  readonly url: URL;
  readonly warning?: string;
}

/**
 * Follows the endpoint a server announces for itself, except from https down to http: that would put
 * the token on the wire in the clear. A server behind a proxy that does not tell it about TLS
 * announces just that, so the address already in use stays.
 */
export function chooseEndpoint(base: URL, announced: string | undefined): Endpoint {
  if (announced === undefined || announced === "") return { url: base };
  const url = URL.canParse(announced, base.href)
    ? parseServerUrl(new URL(announced, base).href)
    : undefined;
  if (url === undefined) {
    return {
      url: base,
      warning: `${base.href} announces an endpoint that is no address; staying here`,
    };
  }
  if (base.protocol === "https:" && url.protocol === "http:") {
    return {
      url: base,
      warning: `${base.href} announces the unencrypted endpoint ${url.href}; staying with https`,
    };
  }
  return { url };
}

const VIEW_NAME = /^[A-Za-z0-9][A-Za-z0-9\-_+]{0,49}$/;

/**
 * Returns `view` when it may stand in a URL as it is: the names Attic allows.
 *
 * @throws {CacheError} `INVALID` when it is none.
 */
export function requireViewName(view: string): string {
  if (VIEW_NAME.test(view)) return view;
  throw new CacheError("INVALID", `${JSON.stringify(view.slice(0, 100))} is no view name`, {
    hint: "A view is named <view>, or <tenant>+<view> outside the default tenant.",
  });
}
