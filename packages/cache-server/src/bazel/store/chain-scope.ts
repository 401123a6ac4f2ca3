import { type DigestKey, DigestList } from "@glorious/reapi";

import {
  ABSENT,
  type ActionFinding,
  type ActionParts,
  type BazelScope,
  type BlobName,
  type BlobUpload,
  type KeyedValue,
  type PutOutcome,
  type ScopeUsage,
  type StoredBlob,
  type WholeBlob,
  INCOMPLETE,
} from "./bazel-store.ts";

type ValueOptions = Parameters<BazelScope["putValue"]>[2];

/**
 * Scopes that are read one behind the other, an overlay's before that of its base: the first that has something
 * answers. A blob counts as present when any of them has it, and an ActionResult as whole when all that it needs is
 * in one or another. Everything is written into the own one.
 */
export class ChainScope implements BazelScope {
  readonly #scopes: readonly BazelScope[];
  readonly #own: BazelScope;

  /** @param scopes In the order of reading, without those that hold nothing yet. */
  constructor(own: BazelScope, scopes: readonly BazelScope[]) {
    this.#own = own;
    this.#scopes = scopes;
  }

  get viewId(): number {
    return this.#own.viewId;
  }

  get instance(): string {
    return this.#own.instance;
  }

  remembersAll(digests: DigestList): boolean {
    return this.#scopes.some((scope) => scope.remembersAll(digests));
  }

  findFewMissing(digests: DigestList): number[] | undefined {
    let missing = placesOf(digests);
    for (const scope of this.#scopes) {
      if (missing.length === 0) return missing;
      const isFirst = missing.length === digests.length;
      const found = scope.findFewMissing(isFirst ? digests : pick(digests, missing));
      if (found === undefined) return undefined;
      missing = isFirst ? found : placesIn(missing, found);
    }
    return missing;
  }

  async findMissing(digests: DigestList): Promise<number[]> {
    let missing = placesOf(digests);
    for (const scope of this.#scopes) {
      if (missing.length === 0) return missing;
      const isFirst = missing.length === digests.length;
      const found = await scope.findMissing(isFirst ? digests : pick(digests, missing));
      missing = isFirst ? found : placesIn(missing, found);
    }
    return missing;
  }

  lookUpBlob(digests: DigestList, index: number): StoredBlob | undefined {
    return firstOf(this.#scopes, (scope) => scope.lookUpBlob(digests, index));
  }

  lookUpBlobOfHash(key: DigestKey): StoredBlob | undefined {
    return firstOf(this.#scopes, (scope) => scope.lookUpBlobOfHash(key));
  }

  findBlob(name: BlobName): Promise<StoredBlob | undefined> {
    return firstFound(this.#scopes, (scope) => scope.findBlob(name));
  }

  findBlobOfHash(key: DigestKey): Promise<StoredBlob | undefined> {
    return firstFound(this.#scopes, (scope) => scope.findBlobOfHash(key));
  }

  putBlob(upload: BlobUpload): Promise<"stored" | "present"> {
    return this.#own.putBlob(upload);
  }

  putBlobs(blobs: readonly WholeBlob[]): Promise<readonly PutOutcome[]> {
    return this.#own.putBlobs(blobs);
  }

  lookUpAction(digests: DigestList, index: number): ActionFinding | undefined {
    return this.#lookUp((scope) => scope.lookUpAction(digests, index));
  }

  lookUpActionOf(key: DigestKey): ActionFinding | undefined {
    return this.#lookUp((scope) => scope.lookUpActionOf(key));
  }

  async findAction(key: DigestKey): Promise<ActionFinding> {
    let isIncomplete = false;
    for (const scope of this.#scopes) {
      const found = await scope.findAction(key);
      if (found.kind === "hit") return found;
      // Whoever reads through a view resolves nothing in it.
      if (found.kind === "unresolved" && scope === this.#own) return found;
      if (found.kind === "absent") continue;
      const whole = await this.#completed(scope, key);
      if (whole !== undefined) return { kind: "hit", result: whole };
      isIncomplete = true;
    }
    return isIncomplete ? INCOMPLETE : ABSENT;
  }

  wasEvicted(key: DigestKey): boolean {
    return this.#scopes.some((scope) => scope.wasEvicted(key));
  }

  async findActionParts(key: DigestKey): Promise<ActionParts | undefined> {
    return firstFound(this.#scopes, (scope) => scope.findActionParts(key));
  }

  putAction(key: DigestKey, result: Uint8Array, refersTo: DigestList | undefined): Promise<void> {
    return this.#own.putAction(key, result, refersTo);
  }

  maySupersede(key: DigestKey): boolean {
    return this.#own.maySupersede(key);
  }

  resolveAction(key: DigestKey, result: Uint8Array, refersTo: DigestList): Promise<void> {
    return this.#own.resolveAction(key, result, refersTo);
  }

  findValue(key: string): Promise<KeyedValue | undefined> {
    return firstFound(this.#scopes, (scope) => scope.findValue(key));
  }

  putValue(key: string, source: AsyncIterable<Buffer>, options?: ValueOptions): Promise<boolean> {
    return this.#own.putValue(key, source, options);
  }

  deleteValue(key: string): Promise<boolean> {
    return this.#own.deleteValue(key);
  }

  findLayout(key: DigestKey): Promise<DigestList | undefined> {
    return firstFound(this.#scopes, (scope) => scope.findLayout(key));
  }

  putLayout(key: DigestKey, chunks: DigestList): Promise<void> {
    return this.#own.putLayout(key, chunks);
  }

  usage(): Promise<ScopeUsage> {
    return this.#own.usage();
  }

  /** At once; what one scope lacks has to be looked for in the others. */
  #lookUp(lookUpIn: (scope: BazelScope) => ActionFinding | undefined): ActionFinding | undefined {
    for (const scope of this.#scopes) {
      const found = lookUpIn(scope);
      if (found?.kind === "hit") return found;
      if (found?.kind !== "absent") return undefined;
    }
    return ABSENT;
  }

  /** The ActionResult of one scope, when what it lacks there is in others. */
  async #completed(scope: BazelScope, key: DigestKey): Promise<Buffer | undefined> {
    const parts = await scope.findActionParts(key);
    if (parts?.refersTo === undefined) return undefined;
    return (await this.findMissing(parts.refersTo)).length === 0 ? parts.result : undefined;
  }
}

function placesOf({ length }: DigestList): number[] {
  return Array.from({ length }, (_, place) => place);
}

/** Those places that a later look left over. */
function placesIn(places: readonly number[], left: readonly number[]): number[] {
  return left.flatMap((at) => places[at] ?? []);
}

function pick(digests: DigestList, places: readonly number[]): DigestList {
  const picked = new DigestList();
  for (const place of places) picked.push(digests.keyView(place), digests.sizeBytes(place));
  return picked;
}

function firstOf<Found>(
  scopes: readonly BazelScope[],
  find: (scope: BazelScope) => Found | undefined,
): Found | undefined {
  for (const scope of scopes) {
    const found = find(scope);
    if (found !== undefined) return found;
  }
  return undefined;
}

async function firstFound<Found>(
  scopes: readonly BazelScope[],
  find: (scope: BazelScope) => Promise<Found | undefined>,
): Promise<Found | undefined> {
  for (const scope of scopes) {
    const found = await find(scope);
    if (found !== undefined) return found;
  }
  return undefined;
}
