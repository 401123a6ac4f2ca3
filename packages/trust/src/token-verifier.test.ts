import { generateKeyPairSync } from "node:crypto";

import fc from "fast-check";
import { CompactSign } from "jose";
import { expect, test } from "vitest";

import { decodeTokenUnverified } from "./decode-token.ts";
import { signToken } from "./sign-token.ts";
import { ATTIC_NAMESPACE, type TokenClaims } from "./token-claims.ts";
import type { TokenKey } from "./token-key.ts";
import { createTokenVerifier } from "./token-verifier.ts";

const NOW_MS = Date.UTC(2026, 0, 1);
const CLAIMS: TokenClaims = {
  subject: "alice",
  expiresAtMs: NOW_MS + 3_600_000,
  caches: [["main", new Set(["pull", "push"] as const)]],
  isAdmin: false,
};
const SECRET: TokenKey = { algorithm: "HS256", secret: Buffer.alloc(32, 1) };
const OTHER_SECRET: TokenKey = { algorithm: "HS256", secret: Buffer.alloc(32, 2) };
const PAIR = generateKeyPairSync("rsa", { modulusLength: 2048 });
const RSA: TokenKey = { algorithm: "RS256", ...PAIR };

async function sign(header: { alg: string } & Record<string, unknown>, payload: unknown) {
  return new CompactSign(Buffer.from(JSON.stringify(payload)))
    .setProtectedHeader(header)
    .sign(Buffer.alloc(32, 1));
}

function encode(value: unknown): string {
  return encodeBytes(Buffer.from(JSON.stringify(value)));
}

function encodeBytes(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("base64url");
}

function decode(part: string): Uint8Array {
  return Buffer.from(part, "base64url");
}

test.each([
  ["HS256", SECRET, SECRET],
  ["RS256", RSA, { algorithm: "RS256", publicKey: PAIR.publicKey } as const],
  [
    "RS256 from PEM texts",
    {
      algorithm: "RS256",
      publicKey: PAIR.publicKey.export({ type: "spki", format: "pem" }).toString(),
      privateKey: PAIR.privateKey.export({ type: "pkcs1", format: "pem" }).toString(),
    } as const,
    RSA,
  ],
  [
    "RS256 with only the private key's PEM",
    RSA,
    {
      algorithm: "RS256",
      publicKey: PAIR.privateKey.export({ type: "pkcs1", format: "pem" }).toString(),
    } as const,
  ],
] satisfies [string, TokenKey, TokenKey][])(
  "a token signed with %s is valid and says what was signed",
  async (_, signing, verifying) => {
    const verifier = createTokenVerifier({ keys: [verifying] });
    const token = await signToken(signing, CLAIMS);
    expect(await verifier.verify(token, NOW_MS)).toMatchObject({ kind: "valid", claims: CLAIMS });
  },
);

test("every byte of a token counts", async () => {
  const verifier = createTokenVerifier({ keys: [SECRET] });
  const parts = (await signToken(SECRET, CLAIMS)).split(".").map(decode);
  for (const [index, part] of parts.entries()) {
    for (let at = 0; at < part.length; at += 1) {
      const flipped = part.with(at, (part[at] ?? 0) ^ 1);
      const changed = parts.with(index, flipped).map(encodeBytes).join(".");
      expect(await verifier.verify(changed, NOW_MS)).toMatchObject({ kind: "invalid" });
    }
  }
});

test("any text gets a verdict, never an exception", async () => {
  const verifier = createTokenVerifier({ keys: [SECRET, RSA] });
  const part = fc.oneof(
    fc.string(),
    fc.json().map((text) => Buffer.from(text).toString("base64url")),
  );
  const texts = fc.oneof(
    fc.string(),
    fc.array(part, { maxLength: 6 }).map((parts) => parts.join(".")),
  );
  await fc.assert(
    fc.asyncProperty(texts, async (text) => {
      expect(await verifier.verify(text, NOW_MS)).toMatchObject({ kind: "invalid" });
    }),
  );
});

test("a token of 16 KiB and more is not looked at", async () => {
  const verifier = createTokenVerifier({ keys: [SECRET] });
  const token = await signToken(SECRET, { ...CLAIMS, subject: "x".repeat(20_000) });
  expect(await verifier.verify(token, NOW_MS)).toMatchObject({ reason: "malformed" });
});

test("a token signed by somebody else is refused", async () => {
  const verifier = createTokenVerifier({ keys: [SECRET] });
  const token = await signToken(OTHER_SECRET, CLAIMS);
  expect(await verifier.verify(token, NOW_MS)).toMatchObject({ reason: "bad-signature" });
});

test("an RSA public key is no HMAC secret", async () => {
  const publicKey = PAIR.publicKey.export({ type: "spki", format: "pem" }).toString();
  const forged = await signToken({ algorithm: "HS256", secret: Buffer.from(publicKey) }, CLAIMS);
  const verifier = createTokenVerifier({ keys: [RSA] });
  expect(await verifier.verify(forged, NOW_MS)).toMatchObject({ reason: "unknown-key" });
});

test("an unsigned token is refused", async () => {
  const payload = { exp: NOW_MS / 1000 + 60, [ATTIC_NAMESPACE]: { caches: { main: { w: 1 } } } };
  const verifier = createTokenVerifier({ keys: [SECRET] });
  for (const alg of ["none", "None", undefined]) {
    const token = `${encode({ alg, typ: "JWT" })}.${encode(payload)}.`;
    expect(await verifier.verify(token, NOW_MS)).toMatchObject({ kind: "invalid" });
  }
});

test("with a kid, only its key and nameless keys are tried", async () => {
  const token = await signToken({ ...SECRET, kid: "old" }, CLAIMS);
  const reasonWith = async (...keys: TokenKey[]) => {
    const verdict = await createTokenVerifier({ keys }).verify(token, NOW_MS);
    return verdict.kind === "valid" ? "valid" : verdict.reason;
  };
  expect(await reasonWith({ ...OTHER_SECRET, kid: "new" }, { ...SECRET, kid: "old" })).toBe(
    "valid",
  );
  expect(await reasonWith({ ...OTHER_SECRET, kid: "new" }, SECRET)).toBe("valid");
  expect(await reasonWith({ ...SECRET, kid: "new" })).toBe("unknown-key");
  expect(await reasonWith({ ...OTHER_SECRET, kid: "old" })).toBe("bad-signature");
});

test("without a kid, every key of the algorithm is tried", async () => {
  const keys = [RSA, { ...OTHER_SECRET, kid: "new" }, { ...SECRET, kid: "old" }];
  const token = await signToken(SECRET, CLAIMS);
  expect(await createTokenVerifier({ keys }).verify(token, NOW_MS)).toMatchObject({
    kind: "valid",
  });
});

test("times count with a tolerance of 60 s, on every call anew", async () => {
  const verifier = createTokenVerifier({ keys: [SECRET] });
  const token = await signToken(SECRET, {
    ...CLAIMS,
    notBeforeMs: NOW_MS,
    expiresAtMs: NOW_MS + 1000,
  });
  const at = async (nowMs: number) => {
    const verdict = await verifier.verify(token, nowMs);
    return verdict.kind === "valid" ? "valid" : verdict.reason;
  };
  expect(await at(NOW_MS)).toBe("valid");
  expect(await at(NOW_MS - 60_000)).toBe("valid");
  expect(await at(NOW_MS - 60_001)).toBe("not-yet-valid");
  expect(await at(NOW_MS + 61_000)).toBe("valid");
  expect(await at(NOW_MS + 61_001)).toBe("expired");
  expect(await at(NOW_MS)).toBe("valid");
});

test("a token without expiry needs the operator's consent", async () => {
  const token = await signToken(SECRET, { ...CLAIMS, expiresAtMs: undefined });
  const strict = createTokenVerifier({ keys: [SECRET] });
  expect(await strict.verify(token, NOW_MS)).toMatchObject({ reason: "no-expiry" });
  const lenient = createTokenVerifier({ keys: [SECRET], requireExpiry: false });
  expect(await lenient.verify(token, NOW_MS)).toMatchObject({ kind: "valid" });
});

test("a bound issuer and bound audiences become mandatory", async () => {
  const keys = [SECRET];
  const bound = createTokenVerifier({ keys, issuer: "us", audiences: ["cache", "cache2"] });
  const plain = await signToken(SECRET, CLAIMS);
  expect(await bound.verify(plain, NOW_MS)).toMatchObject({ reason: "wrong-issuer" });
  const issued = await signToken(SECRET, { ...CLAIMS, issuer: "us" });
  expect(await bound.verify(issued, NOW_MS)).toMatchObject({ reason: "wrong-audience" });
  const meant = await signToken(SECRET, { ...CLAIMS, issuer: "us", audiences: ["x", "cache2"] });
  expect(await bound.verify(meant, NOW_MS)).toMatchObject({ kind: "valid" });
  expect(await createTokenVerifier({ keys }).verify(meant, NOW_MS)).toMatchObject({
    kind: "valid",
  });
});

test.each([
  ["a claim of the wrong kind", { alg: "HS256" }, {}, "bad-claims"],
  ["another type", { alg: "HS256", typ: "at+jwt" }, {}, "malformed"],
  ["a kid that is no text", { alg: "HS256", kid: 1 }, {}, "malformed"],
])("a well signed token with %s is refused", async (_, header, payload, reason) => {
  const verifier = createTokenVerifier({ keys: [SECRET] });
  const token = await sign(header, payload);
  expect(await verifier.verify(token, NOW_MS)).toMatchObject({ kind: "invalid", reason });
});

test("a lowercase type is Attic's freedom", async () => {
  const payload = { exp: NOW_MS / 1000, [ATTIC_NAMESPACE]: { caches: {} } };
  const token = await sign({ alg: "HS256", typ: "jwt" }, payload);
  const verifier = createTokenVerifier({ keys: [SECRET] });
  expect(await verifier.verify(token, NOW_MS)).toMatchObject({ kind: "valid" });
});

test("refusals explain themselves without quoting the token", async () => {
  const verifier = createTokenVerifier({ keys: [SECRET] });
  const expired = await signToken(SECRET, { ...CLAIMS, expiresAtMs: Date.UTC(2025, 0, 1) });
  const verdict = await verifier.verify(expired, NOW_MS);
  expect(verdict).toMatchObject({ message: "The token expired at 2025-01-01T00:00:00.000Z" });
  expect(JSON.stringify(verdict)).not.toContain(expired.split(".")[2]);
});

test.each([
  ["no key", []],
  ["a short secret", [{ algorithm: "HS256", secret: Buffer.alloc(31) }]],
  ["a text that is no key", [{ algorithm: "RS256", publicKey: "nonsense" }]],
  [
    "a short RSA key",
    [
      {
        algorithm: "RS256",
        publicKey: generateKeyPairSync("rsa", { modulusLength: 1024 }).publicKey,
      },
    ],
  ],
  [
    "an elliptic key",
    [{ algorithm: "RS256", publicKey: generateKeyPairSync("ed25519").publicKey }],
  ],
] satisfies [string, TokenKey[]][])("%s is refused as configuration", (_, keys) => {
  expect(() => createTokenVerifier({ keys })).toThrow(expect.objectContaining({ code: "CONFIG" }));
});

test("a public key alone cannot sign", async () => {
  await expect(
    signToken({ algorithm: "RS256", publicKey: PAIR.publicKey }, CLAIMS),
  ).rejects.toMatchObject({ code: "CONFIG" });
});

test("a token can be read without its key, and an opaque one is no error", async () => {
  const token = await signToken({ ...SECRET, kid: "k" }, CLAIMS);
  expect(decodeTokenUnverified(token)).toMatchObject({
    header: { alg: "HS256", typ: "JWT", kid: "k" },
    payload: { sub: "alice" },
  });
  expect(decodeTokenUnverified("opaque")).toBeUndefined();
});
