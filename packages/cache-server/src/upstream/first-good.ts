/** How long a better answer is waited for, once there is one. */
const GRACE_MS = 50;

/**
 * The first of these, in their order, that is anything. Of those before it all have said no, or have had a moment
 * more than it; whatever is not there at the deadline is nothing.
 *
 * @param questions Never reject.
 */
export async function firstGood<Answer>(
  questions: readonly Promise<Answer | undefined>[],
  deadlineMs: number,
): Promise<Answer | undefined> {
  if (questions.length === 0) return undefined;
  const { promise, resolve } = Promise.withResolvers<Answer | undefined>();
  const answers: (Answer | undefined)[] = [];
  const settled: boolean[] = questions.map(() => false);
  const best = (): Answer | undefined => answers.find((answer) => answer !== undefined);
  const deadline = setTimeout(() => resolve(best()), deadlineMs);
  let grace: NodeJS.Timeout | undefined;
  for (const [position, question] of questions.entries()) {
    void question.then((answer) => {
      settled[position] = true;
      answers[position] = answer;
      const first = answers.findIndex((each) => each !== undefined);
      const awaited = first < 0 ? settled : settled.slice(0, first);
      if (awaited.every(Boolean)) resolve(best());
      else if (first >= 0) grace ??= setTimeout(() => resolve(best()), GRACE_MS);
    });
  }
  try {
    return await promise;
  } finally {
    clearTimeout(deadline);
    clearTimeout(grace);
  }
}
