import type { Claims, IdentityWorld } from "@glorious/testkit";

/** What a job got for its identity. */
export interface Exchanged {
  readonly token: string;
  readonly grant: { readonly read: readonly string[] };
}

/** Exchanges an identity of the made-up forge as a job does. @throws {Error} when it is refused. */
export async function exchange(
  { server, issuers }: IdentityWorld,
  claims: Claims,
): Promise<Exchanged> {
  const answer = await fetch(`${server.url}/_flywheel/v1/exchange`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ token: issuers.github.mint(claims) }),
  });
  if (!answer.ok) throw new Error(`The exchange answered ${answer.status}: ${await answer.text()}`);
  return (await answer.json()) as Exchanged;
}
