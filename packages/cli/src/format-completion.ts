import type { Argument, Command, Completion, Option } from "./command.ts";
import { toFlagName } from "./option-name.ts";

/** The shells we write completion for. */
export const COMPLETION_SHELLS = ["bash", "zsh", "fish"] as const;

export type CompletionShell = (typeof COMPLETION_SHELLS)[number];

export function isCompletionShell(text: string): text is CompletionShell {
  return COMPLETION_SHELLS.some((shell) => shell === text);
}

/** A script that completes commands, options and values; it starts no process of ours. */
export function formatCompletion(shell: CompletionShell, commands: readonly Command[]): string {
  const format = { bash: formatBash, zsh: formatZsh, fish: formatFish }[shell];
  return format(commands);
}

interface FlatOption {
  readonly flag: string;
  readonly option: Option;
}

function optionsOf(command: Command): FlatOption[] {
  return [
    ...Object.entries(command.options).map(([name, option]) => ({
      flag: toFlagName(name),
      option,
    })),
    { flag: "help", option: { kind: "flag", help: "Show help", short: "h" } },
  ];
}

function firstWords(commands: readonly Command[]): string[] {
  return [...new Set(commands.map(({ name }) => name.split(" ")[0] ?? ""))];
}

function groups(commands: readonly Command[]): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const { name } of commands) {
    const [group = "", second] = name.split(" ");
    if (second !== undefined) found.set(group, [...(found.get(group) ?? []), second]);
  }
  return found;
}

function completionOf(thing: Option | Argument | undefined): Completion {
  return thing !== undefined && "completes" in thing ? (thing.completes ?? "nothing") : "nothing";
}

function formatBash(commands: readonly Command[]): string {
  const generate = (completes: Completion): string => {
    if (completes === "file") return 'mapfile -t COMPREPLY < <(compgen -f -- "$current")';
    if (completes === "directory") return 'mapfile -t COMPREPLY < <(compgen -d -- "$current")';
    if (completes === "nothing") return "COMPREPLY=()";
    return `mapfile -t COMPREPLY < <(compgen -W '${completes.join(" ")}' -- "$current")`;
  };
  const valueCases = commands.flatMap((command) =>
    optionsOf(command)
      .filter(({ option }) => option.kind !== "flag")
      .map(({ flag, option }) => {
        const short = option.short === undefined ? "" : `|'${command.name} -${option.short}'`;
        return `    '${command.name} --${flag}'${short}) ${generate(completionOf(option))}; return ;;`;
      }),
  );
  const optionCases = commands.map(
    (command) =>
      `    '${command.name}') options='${optionsOf(command)
        .map(({ flag }) => `--${flag}`)
        .join(" ")}' ;;`,
  );
  const argumentCases = commands.map(
    (command) => `    '${command.name}') ${generate(completionOf(command.args?.[0]))} ;;`,
  );
  const groupCases = [...groups(commands)].map(
    ([group, words]) =>
      `    ${group}) mapfile -t COMPREPLY < <(compgen -W '${words.join(" ")}' -- "$current"); return ;;`,
  );
  return `# Completion of flywheel for bash.
_flywheel() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD - 1]}
  local name=\${COMP_WORDS[1]} options=''
  if ((COMP_CWORD == 1)); then
    mapfile -t COMPREPLY < <(compgen -W '${firstWords(commands).join(" ")} --help --version' -- "$current")
    return
  fi
  if ((COMP_CWORD == 2)); then
    case $name in
${groupCases.join("\n")}
    esac
  fi
  case $name in
    ${[...groups(commands).keys()].join(" | ")}) name="$name \${COMP_WORDS[2]}" ;;
  esac
  case "$name $previous" in
${valueCases.join("\n")}
  esac
  case $name in
${optionCases.join("\n")}
  esac
  if [[ $current == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current")
    return
  fi
  case $name in
${argumentCases.join("\n")}
  esac
}
complete -o filenames -F _flywheel flywheel
`;
}

function formatZsh(commands: readonly Command[]): string {
  const action = (completes: Completion): string => {
    if (completes === "file") return "_files";
    if (completes === "directory") return "_files -/";
    return completes === "nothing" ? " " : `(${completes.join(" ")})`;
  };
  const specify = ({ flag, option }: FlatOption): string[] => {
    const help = escapeZsh(option.help);
    const repeat = option.kind === "list" ? "*" : "";
    const value =
      option.kind === "flag"
        ? ""
        : `:${escapeZsh(option.placeholder)}:${action(completionOf(option))}`;
    // zsh lists a flag's two names together and then inserts neither.
    const hasShort = option.short !== undefined && option.kind !== "flag";
    const names = [`--${flag}`, ...(hasShort ? [`-${option.short}`] : [])];
    return names.map((name) => quote(`${repeat}${name}[${help}]${value}`));
  };
  const describe = (argument: Argument): string => {
    const place = argument.isRepeated === true ? "*" : "";
    const optional = argument.isOptional === true && place === "" ? ":" : "";
    return quote(
      `${place}${optional}:${escapeZsh(argument.name)}:${action(completionOf(argument))}`,
    );
  };
  const cases = commands.map((command) => {
    const parts = [...optionsOf(command).flatMap(specify), ...(command.args ?? []).map(describe)];
    return `    ${quote(command.name)}) _arguments -s ${parts.join(" ")} ;;`;
  });
  const list = (entries: ReadonlyArray<readonly [string, string]>): string =>
    entries.map(([word, help]) => quote(`${word}:${help}`)).join(" ");
  const top = firstWords(commands).map((word) => {
    const command = commands.find(({ name }) => name === word);
    return [word, command?.summary ?? `${word} commands`] as const;
  });
  const groupCases = [...groups(commands)].map(([group, words]) => {
    const entries = words.map((word) => {
      const command = commands.find(({ name }) => name === `${group} ${word}`);
      return [word, command?.summary ?? ""] as const;
    });
    return `      ${group}) words_of_group=(${list(entries)}); _describe command words_of_group; return ;;`;
  });
  const groupNames = [...groups(commands).keys()];
  return `#compdef flywheel
# Completion of flywheel for zsh.
_flywheel() {
  local name=$words[2]
  local -a words_of_group
  if (( CURRENT == 2 )); then
    words_of_group=(${list(top)})
    _describe command words_of_group
    return
  fi
  if (( CURRENT == 3 )); then
    case $name in
${groupCases.join("\n")}
    esac
  fi
  # What _arguments sees starts at the last word of the command.
  case $name in
    ${groupNames.join("|")}) name="$name $words[3]"; shift 2 words; (( CURRENT -= 2 )) ;;
    *) shift words; (( CURRENT -= 1 )) ;;
  esac
  case $name in
${cases.join("\n")}
  esac
}
if [[ $funcstack[1] == _flywheel ]]; then _flywheel "$@"; else compdef _flywheel flywheel; fi
`;
}

function formatFish(commands: readonly Command[]): string {
  const lines = ["# Completion of flywheel for fish.", "complete -c flywheel -f"];
  for (const word of firstWords(commands)) {
    const command = commands.find(({ name }) => name === word);
    const help = command === undefined ? "" : ` -d ${quoteFish(command.summary)}`;
    lines.push(`complete -c flywheel -n __fish_use_subcommand -a ${word}${help}`);
  }
  for (const [group, words] of groups(commands)) {
    for (const word of words) {
      const command = commands.find(({ name }) => name === `${group} ${word}`);
      const unseen = `__fish_seen_subcommand_from ${group}; and not __fish_seen_subcommand_from ${words.join(" ")}`;
      lines.push(
        `complete -c flywheel -n '${unseen}' -a ${word} -d ${quoteFish(command?.summary ?? "")}`,
      );
    }
  }
  for (const command of commands) {
    const condition = command.name
      .split(" ")
      .map((word) => `__fish_seen_subcommand_from ${word}`)
      .join("; and ");
    const head = `complete -c flywheel -n '${condition}'`;
    for (const { flag, option } of optionsOf(command)) {
      const short = option.short === undefined ? "" : ` -s ${option.short}`;
      const value = option.kind === "flag" ? "" : ` -r${actionFish(completionOf(option))}`;
      lines.push(`${head} -l ${flag}${short}${value} -d ${quoteFish(option.help)}`);
    }
    const argument = actionFish(completionOf(command.args?.[0]));
    if (argument !== "") lines.push(`${head}${argument}`);
  }
  return `${lines.join("\n")}\n`;
}

function actionFish(completes: Completion): string {
  if (completes === "file") return " -F";
  if (completes === "directory") return " -a '(__fish_complete_directories)'";
  return completes === "nothing" ? "" : ` -a '${completes.join(" ")}'`;
}

function escapeZsh(text: string): string {
  return text.replaceAll(/[[\]:\\]/g, "\\$&");
}

function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

function quoteFish(text: string): string {
  return `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
}
