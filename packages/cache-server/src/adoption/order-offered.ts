/** A path of an overlay. */
export interface OverlayPath {
  readonly storePathHash: string;
  /** Hashes; its own may be among them. */
  readonly references: readonly string[];
}

/** A path that can be taken over, and which of its references have to be there before it. */
export interface OrderedPath {
  readonly storePathHash: string;
  readonly requiredReferences: readonly string[];
}

/**
 * The offered paths that the base does not have, each behind those it refers to. A reference that the overlay never had
 * comes from elsewhere, such as an upstream cache. One that it has, or lost, must be in the base or be offered, too: a path
 * without it is left out, and so is what refers to that.
 */
export function orderOffered(
  overlay: readonly OverlayPath[],
  offered: ReadonlySet<string>,
  isInBase: (storePathHash: string) => boolean,
): OrderedPath[] {
  const paths = new Map(overlay.map((path) => [path.storePathHash, path]));
  const ordered: OrderedPath[] = [];
  const states = new Map<string, "entered" | "usable" | "unusable">();
  const decide = ({ storePathHash, references }: OverlayPath): "usable" | "unusable" => {
    if (isInBase(storePathHash)) return "usable";
    const requiredReferences = references.filter(
      (each) => each !== storePathHash && paths.has(each),
    );
    // One that is not decided yet refers back to this: a cycle, which no store has.
    const isComplete = requiredReferences.every((each) => states.get(each) === "usable");
    if (!isComplete || !offered.has(storePathHash)) return "unusable";
    ordered.push({ storePathHash, requiredReferences });
    return "usable";
  };
  // On a stack of our own: a chain of references may be longer than the engine's.
  const stack = [...overlay];
  for (let path = stack.at(-1); path !== undefined; path = stack.at(-1)) {
    const { storePathHash, references } = path;
    const state = states.get(storePathHash);
    if (state === undefined) {
      states.set(storePathHash, "entered");
      for (const reference of references) {
        const target = paths.get(reference);
        if (target !== undefined && !states.has(reference)) stack.push(target);
      }
      continue;
    }
    stack.pop();
    if (state === "entered") states.set(storePathHash, decide(path));
  }
  return ordered;
}
