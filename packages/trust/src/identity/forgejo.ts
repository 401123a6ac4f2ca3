import { ClaimError, type ClaimsReader } from "./claims-reader.ts";
import { readActionsClaims } from "./github.ts";
import type { Principal } from "./principal.ts";

const NAME = /^[A-Za-z0-9_.-]{1,100}$/;

/**
 * Forgejo's claims are GitHub's in part. Newer servers add the ids; a token that carries one of them
 * carries all, and then names decide nothing.
 *
 * @throws {ClaimError} when ids are there in part, or there are neither ids nor well-formed names.
 */
export function readForgejoPrincipal(issuer: string, claims: ClaimsReader): Principal {
  const ownerId = claims.id("repository_owner_id");
  const repositoryId = claims.id("repository_id");
  if ((ownerId === undefined) !== (repositoryId === undefined)) {
    throw new ClaimError(
      "The token carries the id of the repository or of its owner, but not both",
    );
  }
  const ownerName = claims.requireText("repository_owner");
  const repositoryName = claims.requireText("repository");
  const [inOwner = "", name = "", ...rest] = repositoryName.split("/");
  if (!NAME.test(ownerName) || inOwner !== ownerName || !NAME.test(name) || rest.length > 0) {
    throw new ClaimError("The token's repository is not one of its repository_owner");
  }
  return {
    ...readActionsClaims(claims),
    forge: "forgejo",
    issuer,
    id:
      ownerId === undefined
        ? `forgejo:${issuer}:owner-name/${ownerName}:repo-name/${name}`
        : `forgejo:${issuer}:owner/${ownerId}:repo/${repositoryId}`,
    owner: { id: ownerId, name: ownerName },
    repository: { id: repositoryId, name: repositoryName },
  };
}
