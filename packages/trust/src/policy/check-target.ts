import { FORGE_VOCABULARY, PUBLIC_ISSUERS, targetFieldsOf } from "./forge-vocabulary.ts";
import type {
  IssuerEntry,
  NamedTargetEntry,
  PolicyDocument,
  TargetEntry,
} from "./policy-document.ts";
import type { PolicyReport } from "./policy-problem.ts";

type Path = readonly (string | number)[];

const NUMBER = /^[1-9][0-9]{0,18}$/;

/**
 * Checks whom a rule is about.
 *
 * @returns the rule's issuer, `undefined` when the policy does not know it.
 */
export function checkTarget(
  path: Path,
  entry: TargetEntry,
  document: PolicyDocument,
  report: PolicyReport,
): IssuerEntry | undefined {
  const issuer = Object.hasOwn(document.issuers, entry.issuer)
    ? document.issuers[entry.issuer]
    : undefined;
  if (issuer === undefined) {
    report.problem(
      [...path, "issuer"],
      `${entry.issuer} is no issuer of this policy`,
      `Use one of ${Object.keys(document.issuers).join(", ") || "issuers, which is empty"}.`,
    );
    return undefined;
  }
  const { targets } = FORGE_VOCABULARY[issuer.kind];
  const fields = targetFieldsOf(entry);
  const [field] = fields;
  if (fields.length !== 1 || field === undefined) {
    report.problem(
      path,
      field === undefined
        ? "does not say whom it is about"
        : `is about ${fields.join(" and ")} at once`,
      `Name exactly one of ${targets.join(", ")}.`,
    );
    return issuer;
  }
  if (!targets.includes(field)) {
    report.problem(
      [...path, field],
      `${issuer.kind} knows no such thing`,
      `Name one of ${targets.join(", ")}.`,
    );
  }
  if (field === "instance" && PUBLIC_ISSUERS.has(issuer.issuer)) {
    report.problem(
      [...path, "instance"],
      "would let in every repository of a public forge",
      "Name an organization, a group or repositories.",
    );
  }
  checkIds(path, entry, issuer, report);
  return issuer;
}

function checkIds(path: Path, entry: TargetEntry, issuer: IssuerEntry, report: PolicyReport): void {
  for (const field of ["repository", "organization"] as const) {
    const named = entry[field];
    if (named !== undefined) checkNamed([...path, field], named, issuer, report);
  }
  const ids: Array<readonly [Path, string | undefined]> = [
    [[...path, "repository", "id"], entry.repository?.id],
    [[...path, "organization", "id"], entry.organization?.id],
    [[...path, "group", "id"], entry.group?.id],
    [[...path, "enterprise", "id"], entry.enterprise?.id],
    ...(entry.repositories ?? []).map(
      ({ id }, index) => [[...path, "repositories", index, "id"], id] as const,
    ),
  ];
  for (const [place, id] of ids) {
    if (id === undefined || issuer.kind === "oidc" || NUMBER.test(id)) continue;
    report.problem(
      place,
      `${JSON.stringify(id)} is no id of ${issuer.kind}, which are whole numbers`,
      "Write the number that the forge's API gives as id.",
    );
  }
  const listed = (entry.repositories ?? []).map(({ id }) => id);
  for (const [index, id] of listed.entries()) {
    if (listed.indexOf(id) === index) continue;
    report.problem(
      [...path, "repositories", index, "id"],
      `${id} stands there twice`,
      "Keep it once.",
    );
  }
}

/** Names may change hands, so they count only where a token carries nothing better. */
function checkNamed(
  path: Path,
  { id, name, confirmed, reconfirmAfter }: NamedTargetEntry,
  issuer: IssuerEntry,
  report: PolicyReport,
): void {
  if (id !== undefined) {
    for (const [field, given] of Object.entries({ confirmed, reconfirmAfter })) {
      if (given === undefined) continue;
      report.problem(
        [...path, field],
        "is for rules without an id",
        "Leave it out: the id proves it.",
      );
    }
    return;
  }
  if (issuer.kind !== "forgejo" || name === undefined) {
    report.problem(
      [...path, "id"],
      "is missing",
      "Write the number that the forge's API gives as id.",
    );
    return;
  }
  if (confirmed === undefined) {
    report.problem(
      [...path, "confirmed"],
      "is missing: a name alone can be registered anew by somebody else",
      "Write the id if the forge's tokens carry it; else the day on which you made sure whose the name is.",
    );
  }
  const isRepository = path.at(-1) === "repository";
  if (!(isRepository ? /^[\w.-]+\/[\w.-]+$/ : /^[\w.-]+$/).test(name)) {
    report.problem(
      [...path, "name"],
      `${JSON.stringify(name)} is no name of Forgejo's`,
      isRepository ? "Write <owner>/<repository>." : "Write the owner's name as Forgejo shows it.",
    );
  }
}
