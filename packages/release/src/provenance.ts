import type { ReleaseVersion } from "./release-version.ts";

/** Something that a release consists of, named by its digests. */
export interface Subject {
  readonly name: string;
  /** Keys as in-toto has them: `sha256` of a file, `gitCommit` and `gitTree` of what a tag names. */
  readonly digest: Readonly<Record<string, string>>;
}

/** What a {@link formatProvenance} statement says beside its subjects. */
export interface ProvenanceOptions {
  readonly version: ReleaseVersion;
  /** Address of the sources' repository. */
  readonly source: string;
  readonly commit: string;
  /** URI of who assembled. */
  readonly builder: string;
  readonly subjects: readonly Subject[];
}

/**
 * The provenance of a release: what it consists of, and which commit it was made of by whom.
 *
 * It holds no time and no run, so that who assembles the same commit again gets the same bytes.
 *
 * @see https://slsa.dev/spec/v1.0/provenance
 */
export function formatProvenance(options: ProvenanceOptions): string {
  const { version, source, commit, builder, subjects } = options;
  const tag = `refs/tags/v${version.text}`;
  const statement = {
    _type: "https://in-toto.io/Statement/v1",
    subject: [...subjects].sort((a, b) => (a.name < b.name ? -1 : 1)),
    predicateType: "https://slsa.dev/provenance/v1",
    predicate: {
      buildDefinition: {
        buildType: `${source}/blob/v${version.text}/docs/how-to/release.md`,
        externalParameters: { source: `git+${source}@${tag}`, version: version.text },
        resolvedDependencies: [{ uri: `git+${source}@${tag}`, digest: { gitCommit: commit } }],
      },
      runDetails: { builder: { id: builder } },
    },
  };
  return `${JSON.stringify(statement, undefined, 2)}\n`;
}
