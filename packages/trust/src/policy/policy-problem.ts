/** Something wrong with a policy, or suspicious about it. */
export interface PolicyProblem {
  /** Where, such as `tenants.acme.scopes[1].repository.id`; empty for the document itself. */
  readonly place: string;
  /** What is wrong, without a full stop. */
  readonly message: string;
  /** What to write instead. */
  readonly hint: string;
}

/** Collects what a check finds. */
export interface PolicyReport {
  /** What keeps the policy from being used. */
  problem(path: readonly (string | number)[], message: string, hint: string): void;
  /** What is allowed and probably not meant. */
  warning(path: readonly (string | number)[], message: string, hint: string): void;
}

/** Writes a path through a document as people write it. */
export function formatPlace(path: readonly (string | number)[]): string {
  return path.reduce<string>((place, part) => {
    if (typeof part === "number") return `${place}[${part}]`;
    const isPlain = /^[A-Za-z_][A-Za-z0-9_-]*$/.test(part);
    if (!isPlain) return `${place}[${JSON.stringify(part)}]`;
    return place === "" ? part : `${place}.${part}`;
  }, "");
}
