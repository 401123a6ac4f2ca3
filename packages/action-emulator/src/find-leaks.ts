import type { JobResult } from "./job-options.ts";
import { secretForms } from "./secret-masker.ts";

/** A place where a secret can be read that people or later steps see. */
export interface SecretLeak {
  /** Such as `log of setup-attic` or `environment variable TOKEN`. */
  readonly where: string;
  /** The line, with the secret replaced by `<secret>`. */
  readonly excerpt: string;
}

/**
 * Looks for secrets in everything that a job left for others to see: logs and annotations as they are shown, summaries,
 * outputs, exported variables and PATH. It finds what was printed before it was masked, and what was never masked.
 *
 * @param secrets Further secrets beside those that the job registered itself.
 */
export function findLeaks(result: JobResult, secrets: readonly string[] = []): SecretLeak[] {
  const forms = [...new Set([...result.masks, ...secrets].filter(isTelling).flatMap(secretForms))];
  return visibleTexts(result).flatMap(({ where, text }) =>
    text.split("\n").flatMap((line) => {
      const found = forms.filter((form) => line.includes(form));
      if (found.length === 0) return [];
      const excerpt = found.reduce((shown, form) => shown.replaceAll(form, "<secret>"), line);
      return [{ where, excerpt }];
    }),
  );
}

/** Shorter values occur by chance. */
function isTelling(secret: string): boolean {
  return secret.length >= 4;
}

function visibleTexts(result: JobResult): Array<{ readonly where: string; readonly text: string }> {
  const ofSteps = result.steps.flatMap(({ name, phase, log, summary, outputs, annotations }) => {
    const step = phase === "post" ? `post of ${name}` : name;
    return [
      { where: `log of ${step}`, text: log },
      { where: `summary of ${step}`, text: summary },
      ...annotations.map(({ message }) => ({ where: `annotation of ${step}`, text: message })),
      ...Object.entries(outputs).map(([output, text]) => ({
        where: `output ${output} of ${step}`,
        text,
      })),
    ];
  });
  const exported = Object.entries(result.env).map(([name, text]) => ({
    where: `environment variable ${name}`,
    text,
  }));
  return [...ofSteps, ...exported, { where: "PATH", text: result.path.join("\n") }];
}
