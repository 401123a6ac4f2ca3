/** An input that the workflow's author got wrong: the only thing that fails a job by default. */
export class InputError extends Error {
  override readonly name = "InputError";
}
