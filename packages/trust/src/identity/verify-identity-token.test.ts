import { generateKeyPairSync, type KeyObject, sign } from "node:crypto";

import { forgejoClaims, githubClaims, stampClaims } from "@glorious/testkit";
import { exportJWK, type JWK } from "jose";
import { expect, test } from "vitest";

import { readUnverifiedIssuer } from "./decode-identity-token.ts";
import type { IdentityIssuer } from "./identity-issuer.ts";
import { parseKeySet } from "./key-set.ts";
import { type IdentityContext, verifyIdentityToken } from "./verify-identity-token.ts";

const NOW_SECONDS = 1_790_000_000;
const AUDIENCE = "https://cache.example.org";
const ISSUER: IdentityIssuer = {
  kind: "github",
  issuer: "https://token.actions.githubusercontent.com",
  audiences: [AUDIENCE],
};
const RSA = generateKeyPairSync("rsa", { modulusLength: 2048 });
const WEAK_RSA = generateKeyPairSync("rsa", { modulusLength: 1024 });
const EC = generateKeyPairSync("ec", { namedCurve: "P-256" });
const JOB = githubClaims({
  owner: "acme",
  ownerId: 123,
  repository: "acme/app",
  repositoryId: 456,
});
const CLAIMS = stampClaims(JOB, {
  issuer: ISSUER.issuer,
  audience: AUDIENCE,
  nowSeconds: NOW_SECONDS,
});

function encode(text: string): string {
  return Buffer.from(text).toString("base64url");
}

function mint(
  header: object | string,
  payload: object | string = CLAIMS,
  key: KeyObject = RSA.privateKey,
): string {
  const text = (part: object | string) =>
    encode(typeof part === "string" ? part : JSON.stringify(part));
  const input = `${text(header)}.${text(payload)}`;
  const isEc = key.asymmetricKeyType === "ec";
  const signature = sign("sha256", Buffer.from(input), {
    key,
    ...(isEc ? { dsaEncoding: "ieee-p1363" as const } : {}),
  });
  return `${input}.${signature.toString("base64url")}`;
}

async function publicJwk(key: KeyObject, more: Partial<JWK> = {}): Promise<JWK> {
  return { ...(await exportJWK(key)), ...more };
}

const JWKS = {
  keys: [
    await publicJwk(RSA.publicKey, { kid: "rsa", use: "sig", alg: "RS256" }),
    await publicJwk(EC.publicKey, { kid: "ec" }),
    await publicJwk(WEAK_RSA.publicKey, { kid: "weak" }),
  ],
};
const CONTEXT: IdentityContext = { issuer: ISSUER, jwks: JWKS, nowMs: NOW_SECONDS * 1000 };
const HEADER = { alg: "RS256", kid: "rsa", typ: "JWT" };

async function refusal(token: string, context: Partial<IdentityContext> = {}): Promise<string> {
  const verdict = await verifyIdentityToken(token, { ...CONTEXT, ...context });
  if (verdict.kind === "verified") return "verified";
  expect(verdict.message).not.toContain("acme");
  return verdict.code;
}

test("a token of the issuer's own key is verified, and its ids name the principal", async () => {
  const verdict = await verifyIdentityToken(mint(HEADER), CONTEXT);

  expect(verdict).toMatchObject({
    kind: "verified",
    jti: `jti-${NOW_SECONDS}`,
    issuedAtMs: NOW_SECONDS * 1000,
    expiresAtMs: (NOW_SECONDS + 300) * 1000,
    principal: {
      id: "github:https://token.actions.githubusercontent.com:owner/123:repo/456",
      owner: { id: "123", name: "acme" },
      ref: "refs/heads/main",
      refType: "branch",
      isRefProtected: true,
      fork: "no",
      runnerEnvironment: "self-hosted",
    },
  });
});

test("an elliptic key and a token without a key id are accepted as well", async () => {
  expect(await refusal(mint({ alg: "ES256", kid: "ec" }, CLAIMS, EC.privateKey))).toBe("verified");
  expect(await refusal(mint({ alg: "RS256" }))).toBe("verified");
});

test("an unsigned token is refused, however it says so", async () => {
  for (const alg of ["none", "None", "NONE", ""]) {
    const input = `${encode(JSON.stringify({ alg }))}.${encode(JSON.stringify(CLAIMS))}`;
    expect(await refusal(`${input}.`)).toBe("malformed");
    expect(await refusal(`${input}.AA`)).toBe("wrong-algorithm");
  }
});

test("HS256 with the public key as its secret is refused", async () => {
  const { createHmac } = await import("node:crypto");
  const secret = RSA.publicKey.export({ type: "spki", format: "pem" });
  const input = `${encode('{"alg":"HS256","kid":"rsa"}')}.${encode(JSON.stringify(CLAIMS))}`;
  const token = `${input}.${createHmac("sha256", secret).update(input).digest("base64url")}`;

  expect(await refusal(token)).toBe("wrong-algorithm");
  const lax = { ...ISSUER, algorithms: ["HS256" as "RS256"] };
  expect(await refusal(token, { issuer: lax })).toBe("wrong-algorithm");
});

test("an algorithm that the issuer does not use is refused", async () => {
  const issuer: IdentityIssuer = { ...ISSUER, algorithms: ["ES256"] };
  expect(await refusal(mint(HEADER), { issuer })).toBe("wrong-algorithm");
});

test("a key that is unknown, weak, for another use or of another type counts as absent", async () => {
  expect(await refusal(mint({ ...HEADER, kid: "other" }))).toBe("unknown-key");
  expect(await refusal(mint({ alg: "RS256", kid: "weak" }, CLAIMS, WEAK_RSA.privateKey))).toBe(
    "unknown-key",
  );
  expect(await refusal(mint({ alg: "RS256", kid: "ec" }))).toBe("unknown-key");
  const forEncryption = [await publicJwk(RSA.publicKey, { kid: "rsa", use: "enc" })];
  expect(await refusal(mint(HEADER), { jwks: { keys: forEncryption } })).toBe("unknown-key");
  expect(await refusal(mint(HEADER), { jwks: { keys: [] } })).toBe("unknown-key");
  const symmetric = { keys: [{ kty: "oct", kid: "rsa", k: "AAAA" }] };
  expect(await refusal(mint(HEADER), { jwks: symmetric })).toBe("unknown-key");
});

test("a signature by another key, or over other claims, is wrong", async () => {
  const stranger = generateKeyPairSync("rsa", { modulusLength: 2048 });
  expect(await refusal(mint(HEADER, CLAIMS, stranger.privateKey))).toBe("bad-signature");
  const [header, , signature] = mint(HEADER).split(".");
  const changed = encode(JSON.stringify({ ...CLAIMS, repository_id: "1" }));
  expect(await refusal(`${header}.${changed}.${signature}`)).toBe("bad-signature");
});

test.each([
  ["another issuer", { iss: "https://token.actions.githubusercontent.com/" }, "wrong-issuer"],
  ["an issuer in capitals", { iss: ISSUER.issuer.toUpperCase() }, "wrong-issuer"],
  ["no issuer", { iss: undefined }, "wrong-issuer"],
  ["another audience", { aud: "https://cache.example.org.evil.test" }, "wrong-audience"],
  ["no audience", { aud: undefined }, "wrong-audience"],
  ["an empty list of audiences", { aud: [] }, "wrong-audience"],
  ["an audience beside ours", { aud: [AUDIENCE, "sts.amazonaws.com"] }, "wrong-audience"],
  ["a list with our audience alone", { aud: [AUDIENCE] }, "verified"],
  ["no expiry", { exp: undefined }, "no-expiry"],
  ["no time of issue", { iat: undefined }, "no-expiry"],
  ["an expiry as text", { exp: String(NOW_SECONDS + 300) }, "no-expiry"],
  ["an expiry beyond time", { exp: 1e300 }, "no-expiry"],
  ["an expiry 61 s ago", { exp: NOW_SECONDS - 61 }, "expired"],
  ["an expiry 60 s ago, to the second", { exp: NOW_SECONDS - 60 }, "expired"],
  [
    "an expiry 59 s ago, within the tolerance",
    { exp: NOW_SECONDS - 59, iat: NOW_SECONDS - 400 },
    "verified",
  ],
  ["a start in 61 s", { nbf: NOW_SECONDS + 61 }, "not-yet-valid"],
  ["a start in 60 s, within the tolerance", { nbf: NOW_SECONDS + 60 }, "verified"],
  ["issue in the future", { iat: NOW_SECONDS + 61 }, "not-yet-valid"],
  ["no start", { nbf: undefined }, "verified"],
  ["a start that is no time", { nbf: "soon" }, "bad-claims"],
  ["a life of more than a day", { exp: NOW_SECONDS + 86_401 }, "too-long-lived"],
  ["a jti that is no text", { jti: 7 }, "bad-claims"],
  ["no jti", { jti: undefined }, "verified"],
  ["no repository id", { repository_id: undefined }, "bad-claims"],
  ["a repository id of zero", { repository_id: "0" }, "bad-claims"],
  ["a repository id with a leading zero", { repository_id: "0456" }, "bad-claims"],
  ["a repository id with a sign", { repository_id: "+456" }, "bad-claims"],
  ["a repository id in other digits", { repository_id: "４５６" }, "bad-claims"],
  ["a repository id as a list", { repository_id: ["456"] }, "bad-claims"],
  ["an owner id as an object", { repository_owner_id: { id: 123 } }, "bad-claims"],
  ["a ref that is none", { ref: "main" }, "bad-claims"],
  ["a ref with a dot as a part", { ref: "refs/heads/./main" }, "bad-claims"],
  ["a ref that climbs", { ref: "refs/heads/x/../main" }, "bad-claims"],
  ["a ref with an empty part", { ref: "refs/heads//main" }, "bad-claims"],
  ["a ref with a line break", { ref: "refs/heads/main\n" }, "bad-claims"],
  ["a ref with a NUL", { ref: "refs/heads/main\u0000" }, "bad-claims"],
  ["ref_protected that is neither", { ref_protected: "yes" }, "bad-claims"],
])("a token with %s is judged", async (_, change, expected) => {
  expect(await refusal(mint(HEADER, { ...CLAIMS, ...change }))).toBe(expected);
});

test("more than 300 s of tolerance are never given", async () => {
  const token = mint(HEADER, {
    ...CLAIMS,
    iat: NOW_SECONDS - 700,
    nbf: NOW_SECONDS - 700,
    exp: NOW_SECONDS - 301,
  });
  expect(await refusal(token, { clockToleranceSeconds: 3600 })).toBe("expired");
});

test("a key that stands twice is refused, also when it is written in another way", async () => {
  const payload = JSON.stringify(CLAIMS);
  const twice = payload.replace("{", '{"repository_id":"1",');
  const escaped = payload.replace("{", String.raw`{"\u0072epository_id":"1",`);
  const nested = payload.replace("{", '{"x":{"a":1,"a":2},');

  expect(await refusal(mint(HEADER, twice))).toBe("duplicate-key");
  expect(await refusal(mint(HEADER, escaped))).toBe("duplicate-key");
  expect(await refusal(mint(HEADER, nested))).toBe("duplicate-key");
  expect(await refusal(mint('{"alg":"RS256","alg":"none","kid":"rsa"}'))).toBe("duplicate-key");
});

test("the same key in two objects, and as a value, is no repetition", async () => {
  const payload = JSON.stringify({
    ...CLAIMS,
    x: { a: "a", b: { a: "iss" } },
    y: [{ a: 1 }, { a: 2 }],
  });
  expect(await refusal(mint(HEADER, payload))).toBe("verified");
});

test("what is no token is refused", async () => {
  const token = mint(HEADER);
  const [header, payload, signature] = token.split(".");
  const notUtf8 = Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]).toString("base64url");
  for (const text of [
    "",
    "a",
    "a.b",
    "a.b.c",
    `${token}.more`,
    `${header}.${payload}.`,
    `${header}=.${payload}.${signature}`,
    `${header}.${payload}\n.${signature}`,
    `${notUtf8}.${payload}.${signature}`,
    `${encode("[]")}.${payload}.${signature}`,
    `${encode("null")}.${payload}.${signature}`,
  ]) {
    expect(await refusal(text)).toBe("malformed");
  }
});

test("a header of another type, with an odd key id, or with critical extensions is refused", async () => {
  expect(await refusal(mint({ ...HEADER, typ: "at+jwt" }))).toBe("wrong-type");
  expect(await refusal(mint({ ...HEADER, typ: 1 }))).toBe("wrong-type");
  expect(await refusal(mint({ ...HEADER, kid: 1 }))).toBe("malformed");
  expect(await refusal(mint({ ...HEADER, crit: ["b64"], b64: false }))).toBe("malformed");
});

test("a huge token is refused before anything of it is read", async () => {
  expect(await refusal(mint(HEADER, { ...CLAIMS, x: "a".repeat(20_000) }))).toBe("too-large");
});

test("the issuer is read from a token without believing it", () => {
  expect(readUnverifiedIssuer(mint(HEADER))).toBe(ISSUER.issuer);
  expect(readUnverifiedIssuer("a.b.c")).toBeUndefined();
  expect(readUnverifiedIssuer(mint(HEADER, { iss: 7 }))).toBeUndefined();
  expect(readUnverifiedIssuer(mint(HEADER, "{}"))).toBeUndefined();
});

test("Forgejo's token with one id of two is refused", async () => {
  const job = forgejoClaims({
    owner: "acme",
    ownerId: 1,
    repository: "acme/app",
    repositoryId: 2,
    hasIds: true,
  });
  const issuer: IdentityIssuer = { ...ISSUER, kind: "forgejo" };
  const claims = stampClaims(
    { ...job, repository_id: undefined },
    { issuer: ISSUER.issuer, audience: AUDIENCE, nowSeconds: NOW_SECONDS },
  );
  expect(await refusal(mint(HEADER, claims), { issuer })).toBe("bad-claims");
});

test("a key set is read; one that is none, or huge, is refused", () => {
  expect(
    parseKeySet('{"keys":[{"kty":"RSA","n":"a","e":"AQAB"},{"kty":7},"x"]}').keys,
  ).toHaveLength(1);
  for (const text of ["", "[]", "{}", '{"keys":{}}', '{"keys":[],"keys":[]}']) {
    expect(() => parseKeySet(text)).toThrow(expect.objectContaining({ code: "CORRUPT" }));
  }
  const many = JSON.stringify({ keys: Array.from({ length: 101 }, () => ({ kty: "RSA" })) });
  expect(() => parseKeySet(many)).toThrow(expect.objectContaining({ code: "CORRUPT" }));
});
