import { createHmac, generateKeyPair, type KeyObject, sign } from "node:crypto";
import { promisify } from "node:util";

/** What an issuer signs with. */
export type MintAlgorithm = "RS256" | "ES256";

/** A key pair of an issuer. */
export interface IssuerKey {
  readonly kid: string;
  readonly algorithm: MintAlgorithm;
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
}

const generate = promisify(generateKeyPair);

/** Makes a key pair as the forges have them. */
export async function createIssuerKey(
  kid: string,
  algorithm: MintAlgorithm = "RS256",
): Promise<IssuerKey> {
  const { privateKey, publicKey } =
    algorithm === "RS256"
      ? await generate("rsa", { modulusLength: 2048 })
      : await generate("ec", { namedCurve: "P-256" });
  return { kid, algorithm, privateKey, publicKey };
}

/** The key as a key set has it. */
export function toPublicJwk({ kid, algorithm, publicKey }: IssuerKey): Record<string, unknown> {
  return { ...publicKey.export({ format: "jwk" }), kid, alg: algorithm, use: "sig" };
}

/** Signs any header and payload, given as values or, for what no value can say, as text. */
export function signParts(
  key: IssuerKey,
  header: Readonly<Record<string, unknown>>,
  payload: Readonly<Record<string, unknown>> | string,
): string {
  return join(header, payload, (input) =>
    sign("sha256", Buffer.from(input), {
      key: key.privateKey,
      // JWS wants the two numbers of ECDSA side by side.
      dsaEncoding: "ieee-p1363",
    }),
  );
}

/** A token without a signature, which says so. */
export function unsignedToken(payload: Readonly<Record<string, unknown>>): string {
  return join({ alg: "none", typ: "JWT" }, payload, () => Buffer.alloc(0));
}

/** The attack on verifiers that let the token choose: HS256 with the public key as the secret. */
export function confusedToken(key: IssuerKey, payload: Readonly<Record<string, unknown>>): string {
  const secret = key.publicKey.export({ format: "pem", type: "spki" });
  return join({ alg: "HS256", typ: "JWT", kid: key.kid }, payload, (input) =>
    createHmac("sha256", secret).update(input).digest(),
  );
}

function join(
  header: Readonly<Record<string, unknown>>,
  payload: Readonly<Record<string, unknown>> | string,
  signatureOf: (input: string) => Buffer,
): string {
  const text = typeof payload === "string" ? payload : JSON.stringify(payload);
  const input = `${encode(JSON.stringify(header))}.${encode(text)}`;
  return `${input}.${signatureOf(input).toString("base64url")}`;
}

function encode(text: string): string {
  return Buffer.from(text).toString("base64url");
}
