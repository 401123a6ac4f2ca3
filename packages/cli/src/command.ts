import type { CliContext } from "./cli-context.ts";

/** What the shell offers when it completes a value. */
export type Completion = "file" | "directory" | "nothing" | readonly string[];

/** An option that is there or not. */
export interface FlagOption {
  readonly kind: "flag";
  readonly help: string;
  readonly short?: string;
}

/** An option with one value. */
export interface ValueOption<T> {
  readonly kind: "value";
  /** How help names the value, such as `URL`. */
  readonly placeholder: string;
  readonly help: string;
  readonly short?: string;
  /** An environment variable that stands in for the option. */
  readonly environment?: string;
  /** @throws {CacheError} `INVALID` when the text is no such value. */
  readonly parse: (text: string) => T;
  readonly completes?: Completion;
}

/** An option that may be repeated. */
export interface ListOption<T> extends Omit<ValueOption<T>, "kind" | "environment"> {
  readonly kind: "list";
}

export type Option = FlagOption | ValueOption<unknown> | ListOption<unknown>;
/** Options by their camel case names: `tokenFile` is `--token-file`. */
export type Options = Readonly<Record<string, Option>>;

/** What became of an option: `false` or `undefined` when it was not given. */
export type OptionValue<O> = O extends FlagOption
  ? boolean
  : O extends ListOption<infer T>
    ? readonly T[]
    : O extends ValueOption<infer T>
      ? T | undefined
      : never;

export type OptionValues<O extends Options> = { readonly [K in keyof O]: OptionValue<O[K]> };

/** A word after the command that is no option. */
export interface Argument {
  /** As help shows it, such as `VIEW`. */
  readonly name: string;
  readonly help: string;
  readonly isOptional?: boolean;
  /** Takes all that follows; only for the last one. */
  readonly isRepeated?: boolean;
  readonly completes?: Completion;
}

export interface Example {
  readonly comment: string;
  readonly command: string;
}

/** A command line that was understood. */
export interface Invocation<O extends Options> {
  readonly options: OptionValues<O>;
  readonly args: readonly string[];
  /** Options with values, in the order of the command line, by their camel case names. */
  readonly given: ReadonlyArray<readonly [name: string, value: unknown]>;
}

/** Everything about one command: parsing, help, completion and documentation come from here. */
export interface CommandSpec<O extends Options> {
  /** The words that call it, such as `view create`. */
  readonly name: string;
  /** One line without a full stop. */
  readonly summary: string;
  /** Paragraphs below the summary. */
  readonly description?: string;
  readonly args?: readonly Argument[];
  readonly options: O;
  /** Variables that are no option's stand-in. */
  readonly environment?: ReadonlyArray<readonly [name: string, help: string]>;
  readonly examples: readonly Example[];
  run(invocation: Invocation<O>, context: CliContext): Promise<void>;
}

export type Command = CommandSpec<Options>;

/** Names a command's types once, so that `run` knows what its options hold. */
export function defineCommand<const O extends Options>(spec: CommandSpec<O>): Command {
  return spec;
}

/** An option that is there or not. */
export function flag(help: string, more: { readonly short?: string } = {}): FlagOption {
  return { kind: "flag", help, ...more };
}

type ValueExtras = Pick<ValueOption<unknown>, "short" | "environment" | "completes">;

/** An option with a text. */
export function text(
  placeholder: string,
  help: string,
  more: ValueExtras = {},
): ValueOption<string> {
  return { kind: "value", placeholder, help, parse: (given) => given, ...more };
}

/** An option with a value that is more than text. */
export function value<T>(
  placeholder: string,
  help: string,
  parse: (text: string) => T,
  more: ValueExtras = {},
): ValueOption<T> {
  return { kind: "value", placeholder, help, parse, ...more };
}

/** An option that may be repeated. */
export function list<T>(
  placeholder: string,
  help: string,
  parse: (text: string) => T,
  more: Omit<ValueExtras, "environment"> = {},
): ListOption<T> {
  return { kind: "list", placeholder, help, parse, ...more };
}
