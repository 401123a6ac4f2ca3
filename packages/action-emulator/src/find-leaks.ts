import type { JobResult } from "./job-options.ts";
import { secretForms } from "./secret-masker.ts";

/** A place where a secret can be read that people or later steps see. */
export interface SecretLeak {
  /** Whether people read it (logs, annotations, summaries), or later steps only (outputs, variables, PATH). */
  readonly kind: "printed" | "exported";
  /** Such as `log of setup-attic` or `environment variable TOKEN`. */
  readonly where: string;
  /** The line, with the secret replaced by `<secret>`. */
  readonly excerpt: string;
}

/**
 * Looks for secrets in everything that a job left for others to see: logs and annotations as they are shown, summaries,
 * outputs, exported variables and PATH. It finds what was printed before it was masked, and what was never masked.
 *
 * @param secrets Default: what the job registered as a secret itself.
 */
export function findLeaks(
  result: JobResult,
  secrets: readonly string[] = result.masks,
): SecretLeak[] {
  const forms = [...new Set(secrets.filter(isTelling).flatMap(secretForms))];
  return visibleTexts(result).flatMap(({ kind, where, text }) =>
    text.split("\n").flatMap((line) => {
      const found = forms.filter((form) => line.includes(form));
      if (found.length === 0) return [];
      const excerpt = found.reduce((shown, form) => shown.replaceAll(form, "<secret>"), line);
      return [{ kind, where, excerpt }];
    }),
  );
}

/** Shorter values occur by chance. */
function isTelling(secret: string): boolean {
  return secret.length >= 4;
}

interface VisibleText extends Pick<SecretLeak, "kind" | "where"> {
  readonly text: string;
}

function visibleTexts(result: JobResult): VisibleText[] {
  const printed = (where: string, text: string): VisibleText => ({ kind: "printed", where, text });
  const exported = (where: string, text: string): VisibleText => ({
    kind: "exported",
    where,
    text,
  });
  const ofSteps = result.steps.flatMap(({ name, phase, log, summary, outputs, annotations }) => {
    const step = phase === "post" ? `post of ${name}` : name;
    return [
      printed(`log of ${step}`, log),
      printed(`summary of ${step}`, summary),
      ...annotations.map(({ message }) => printed(`annotation of ${step}`, message)),
      ...Object.entries(outputs).map(([key, text]) => exported(`output ${key} of ${step}`, text)),
    ];
  });
  const variables = Object.entries(result.env);
  return [
    ...ofSteps,
    ...variables.map(([name, text]) => exported(`environment variable ${name}`, text)),
    exported("PATH", result.path.join("\n")),
  ];
}
