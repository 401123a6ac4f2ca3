import type { ForgeKind } from "../identity/principal.ts";
import type { TargetEntry } from "./policy-document.ts";

/** A field that says whom a rule is about. */
export type TargetField = Exclude<keyof TargetEntry, "issuer">;

/** What a policy may say about the jobs of one kind of issuer. */
export interface ForgeVocabulary {
  readonly targets: readonly TargetField[];
  /** Events that are trusted when the policy names none; `undefined`: the issuer knows no events. */
  readonly defaultEvents: readonly string[] | undefined;
  /** Events that a policy may trust beside those. */
  readonly furtherEvents: readonly string[];
  readonly hasMergeQueue: boolean;
}

const ACTIONS_EVENTS = ["push", "schedule", "workflow_dispatch"];
const FURTHER_ACTIONS_EVENTS = ["repository_dispatch", "release", "deployment"];

/** Every kind's words. What is not among its events is never trusted, whatever a policy says. */
export const FORGE_VOCABULARY: Readonly<Record<ForgeKind, ForgeVocabulary>> = {
  github: {
    targets: ["repository", "repositories", "organization", "enterprise", "instance"],
    defaultEvents: ACTIONS_EVENTS,
    furtherEvents: FURTHER_ACTIONS_EVENTS,
    hasMergeQueue: true,
  },
  gitlab: {
    targets: ["repository", "repositories", "group", "instance"],
    defaultEvents: ["push", "schedule", "web"],
    furtherEvents: ["api", "trigger", "pipeline", "parent_pipeline", "chat", "webide"],
    hasMergeQueue: true,
  },
  forgejo: {
    targets: ["repository", "repositories", "organization", "instance"],
    defaultEvents: ACTIONS_EVENTS,
    furtherEvents: FURTHER_ACTIONS_EVENTS,
    hasMergeQueue: false,
  },
  kubernetes: {
    targets: ["serviceAccount", "namespace"],
    defaultEvents: undefined,
    furtherEvents: [],
    hasMergeQueue: false,
  },
  oidc: {
    targets: ["repository", "repositories", "organization", "instance"],
    defaultEvents: undefined,
    furtherEvents: [],
    hasMergeQueue: false,
  },
};

/** Issuers that serve the whole world: a rule for all of one would let strangers in. */
export const PUBLIC_ISSUERS: ReadonlySet<string> = new Set([
  "https://token.actions.githubusercontent.com",
  "https://gitlab.com",
  "https://codeberg.org/api/actions",
]);

const TARGET_FIELDS: readonly TargetField[] = [
  "repository",
  "repositories",
  "organization",
  "group",
  "enterprise",
  "instance",
  "serviceAccount",
  "namespace",
];

/** The fields by which an entry says whom it is about. */
export function targetFieldsOf(entry: TargetEntry): readonly TargetField[] {
  return TARGET_FIELDS.filter((field) => entry[field] !== undefined);
}
