import type { Principal } from "../identity/principal.ts";
import type { PolicyScope } from "../policy/trust-policy.ts";
import type { Adoption } from "./grant.ts";

/** What a forge runs by itself for a queue's commit. */
const QUEUE_EVENTS: ReadonlySet<string> = new Set(["merge_group", "push", "merge_request_event"]);

/**
 * What ties a merge queue's run to the push of the same commit by the same workflow file.
 *
 * @returns `undefined` when the rule has adoption switched off, or the token lacks what proves it.
 */
export function findAdoption(
  scope: Pick<PolicyScope, "adoptMergeQueue">,
  principal: Principal,
  role: Adoption["role"],
): Adoption | undefined {
  const { issuer, repository, commit, workflowRef, event, refType } = principal;
  if (!scope.adoptMergeQueue || repository?.id === undefined) return undefined;
  if (commit === undefined || workflowRef === undefined) return undefined;
  // A run that somebody starts by hand has inputs that the push does not have.
  if (role === "offers" && !QUEUE_EVENTS.has(event ?? "")) return undefined;
  if (role === "takes" && (event !== "push" || refType !== "branch")) return undefined;
  // The ref behind the file differs by design: the queue's is temporary.
  const [workflow = ""] = workflowRef.split("@refs/");
  return { role, key: JSON.stringify([issuer, repository.id, commit, workflow]) };
}
