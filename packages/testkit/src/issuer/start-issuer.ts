import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

import {
  confusedToken,
  createIssuerKey,
  type IssuerKey,
  type MintAlgorithm,
  signParts,
  toPublicJwk,
  unsignedToken,
} from "./mint-token.ts";

/** How an issuer answers those who ask for its keys. */
export type IssuerConduct =
  | "well"
  /** Nobody listens. */
  | "refuse"
  /** The connection is taken and nothing said. */
  | "hang"
  /** The head comes at once, the body a byte a second. */
  | "drip"
  /** The key set never ends. */
  | "enormous"
  | "garbage"
  /** Status 500. */
  | "fail"
  /** To another host. */
  | "redirect"
  /** The discovery document is another issuer's. */
  | "impostor"
  /** The key set names a member twice. */
  | "duplicate";

/** How a token deviates from a good one. */
export interface MintOptions {
  /** Default: a test's server, see {@link TestIssuer.audience}. */
  readonly audience?: string | readonly string[];
  /** Default: now. */
  readonly issuedAtMs?: number;
  /** Default 300, GitHub's. */
  readonly lifetimeSeconds?: number;
  /** Further header fields, or other values of those there are. */
  readonly header?: Readonly<Record<string, unknown>>;
  /** Signs with this instead of the issuer's newest key. */
  readonly key?: IssuerKey;
}

/** An issuer of identity tokens as a real server on a loopback address. */
export interface TestIssuer extends AsyncDisposable {
  /** The value of `iss`. */
  readonly issuer: string;
  /** Put into tokens where none is given. */
  audience: string;
  /** The keys that are published, the newest last; that one signs. */
  readonly keys: readonly IssuerKey[];
  /** How often the key set was asked for. */
  readonly keyRequests: number;
  /** A good token with these claims: `iss`, `aud`, `iat`, `nbf`, `exp` and `jti` are added where they are missing. */
  mint(claims: Readonly<Record<string, unknown>>, options?: MintOptions): string;
  /** The same claims without a signature. */
  mintUnsigned(claims: Readonly<Record<string, unknown>>): string;
  /** The same claims, signed with HS256 and the public key as the secret. */
  mintConfused(claims: Readonly<Record<string, unknown>>): string;
  /** The same claims as a payload's text, changed before it is signed. */
  mintText(claims: Readonly<Record<string, unknown>>, change: (text: string) => string): string;
  /** A new key signs from now on; the old ones stay published only when they are kept. */
  rotate(options?: {
    readonly keepsOld?: boolean;
    readonly algorithm?: MintAlgorithm;
  }): Promise<void>;
  conduct(conduct: IssuerConduct): Promise<void>;
  /** The key set's text, as a file for a cluster would have it. */
  keySetText(): string;
  /**
   * What GitHub's and Forgejo's runners put into a job's environment: who asks the address with the token gets an
   * identity token with these claims for the audience of the query.
   */
  jobEnvironment(claims: Readonly<Record<string, unknown>>): Record<string, string>;
}

const ENORMOUS_PIECE = Buffer.alloc(64 * 1024, "x");

/** Starts an issuer; `path` follows its host in `iss`, as `/api/actions` does on Forgejo. */
export async function startIssuer(
  options: { readonly path?: string; readonly algorithm?: MintAlgorithm } = {},
): Promise<TestIssuer> {
  const { path = "", algorithm = "RS256" } = options;
  let keys = [await createIssuerKey("key-1", algorithm)];
  let keyCount = 1;
  let keyRequests = 0;
  let conduct: IssuerConduct = "well";
  const jobs = new Map<string, Readonly<Record<string, unknown>>>();

  const server = createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url ?? "/", issuer);
    if (pathname === "/job-token") return answerJob(request, response, searchParams);
    if (pathname === `${path}/.well-known/openid-configuration`) {
      if (conduct === "hang") return;
      const named = conduct === "impostor" ? "https://impostor.example" : issuer;
      return sendJson(response, { issuer: named, jwks_uri: `${issuer}/keys` });
    }
    if (pathname !== `${path}/keys`) return sendJson(response, {}, 404);
    keyRequests += 1;
    answerKeys(response);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const origin = `http://127.0.0.1:${port}`;
  const issuer = `${origin}${path}`;

  const newest = (): IssuerKey => keys.at(-1) ?? unreachable();
  const complete = (
    claims: Readonly<Record<string, unknown>>,
    { audience, issuedAtMs = Date.now(), lifetimeSeconds = 300 }: MintOptions = {},
  ): Record<string, unknown> => {
    const iat = Math.floor(issuedAtMs / 1000);
    return {
      iss: issuer,
      aud: audience ?? issuerServer.audience,
      iat,
      nbf: iat,
      exp: iat + lifetimeSeconds,
      jti: randomUUID(),
      ...claims,
    };
  };

  const issuerServer: TestIssuer = {
    issuer,
    audience: "http://127.0.0.1",
    get keys() {
      return keys;
    },
    get keyRequests() {
      return keyRequests;
    },
    mint(claims, mintOptions = {}) {
      const { key = newest(), header = {} } = mintOptions;
      const all = { alg: key.algorithm, typ: "JWT", kid: key.kid, ...header };
      return signParts(key, all, complete(claims, mintOptions));
    },
    mintUnsigned: (claims) => unsignedToken(complete(claims)),
    mintConfused: (claims) => confusedToken(newest(), complete(claims)),
    mintText(claims, change) {
      const key = newest();
      const header = { alg: key.algorithm, typ: "JWT", kid: key.kid };
      return signParts(key, header, change(JSON.stringify(complete(claims))));
    },
    async rotate({ keepsOld = false, algorithm: next = algorithm } = {}) {
      keyCount += 1;
      keys = [...(keepsOld ? keys : []), await createIssuerKey(`key-${keyCount}`, next)];
    },
    async conduct(next) {
      if (next === "refuse" && server.listening) {
        const closed = once(server, "close");
        server.close();
        server.closeAllConnections();
        await closed;
      } else if (next !== "refuse" && !server.listening) {
        server.listen(port, "127.0.0.1");
        await once(server, "listening");
      }
      conduct = next;
    },
    keySetText: () => JSON.stringify({ keys: keys.map(toPublicJwk) }),
    jobEnvironment(claims) {
      const secret = randomUUID();
      jobs.set(secret, claims);
      return {
        ACTIONS_ID_TOKEN_REQUEST_URL: `${origin}/job-token?api-version=2.0`,
        ACTIONS_ID_TOKEN_REQUEST_TOKEN: secret,
      };
    },
    async [Symbol.asyncDispose]() {
      if (!server.listening) return;
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
  return issuerServer;

  function answerJob(
    request: IncomingMessage,
    response: ServerResponse,
    query: URLSearchParams,
  ): void {
    if (conduct === "hang") return;
    if (conduct === "fail") return sendJson(response, { message: "no" }, 500);
    const [, secret = ""] = /^bearer (.+)$/i.exec(request.headers.authorization ?? "") ?? [];
    const claims = jobs.get(secret);
    if (claims === undefined) return sendJson(response, { message: "unauthorized" }, 401);
    const audience = query.get("audience") ?? "https://github.com/octo-org";
    sendJson(response, { count: 1, value: issuerServer.mint(claims, { audience }) });
  }

  function answerKeys(response: ServerResponse): void {
    const text = issuerServer.keySetText();
    switch (conduct) {
      case "hang":
        return;
      case "drip": {
        response.writeHead(200, { "content-type": "application/json" });
        let sent = 0;
        const timer = setInterval(() => response.write(text[sent++] ?? " "), 1000);
        response.on("close", () => clearInterval(timer));
        return;
      }
      case "enormous": {
        response.writeHead(200, { "content-type": "application/json" });
        const write = (): void => {
          while (!response.destroyed && response.write(ENORMOUS_PIECE));
        };
        response.on("drain", write);
        response.on("error", () => {});
        return write();
      }
      case "garbage":
        return void response.end("<html>Sign in</html>");
      case "fail":
        return sendJson(response, {}, 500);
      case "redirect":
        return void response.writeHead(302, { location: "http://127.0.0.2:1/keys" }).end();
      case "duplicate":
        return void response.end(`{"keys":[],${text.slice(1)}`);
      default:
        return void response.end(text);
    }
  }
}

function sendJson(response: ServerResponse, value: unknown, status = 200): void {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
}

function unreachable(): never {
  throw new Error("An issuer has at least one key");
}
