import type { FileCommandEntry } from "./file-command.ts";
import type { SecretMasker } from "./secret-masker.ts";
import { parseWorkflowCommand, type WorkflowCommand } from "./workflow-command.ts";

/** How bad an annotation is. */
export type AnnotationLevel = "error" | "warning" | "notice";

/** A message that the forge shows beside the log; secrets are masked. */
export interface Annotation {
  readonly level: AnnotationLevel;
  readonly message: string;
  /** `title`, `file`, `line` and the like. */
  readonly properties: Readonly<Record<string, string>>;
}

/** GitHub keeps this many annotations of one level for each step. */
const MAX_ANNOTATIONS = 10;
/** Commands of the past that would let a step's output change its successors. */
const DISABLED = new Set(["set-env", "add-path"]);

/** Reads what a step prints as the runner does, line by line. */
export interface StepLog {
  readonly annotations: readonly Annotation[];
  /** How many annotations were beyond the limit and are not kept. */
  readonly droppedAnnotations: number;
  /** Outputs and state that came as commands instead of files. */
  readonly outputs: readonly FileCommandEntry[];
  readonly state: readonly FileCommandEntry[];
  /** Whether a command was used that fails the step. */
  readonly hasFailed: boolean;
  /** What the forge shows, masked. */
  readonly text: string;
  /** What the process wrote, commands included, unmasked. */
  readonly rawText: string;
  line(line: string): void;
  annotate(level: AnnotationLevel, message: string): void;
}

/** Creates an empty log; secrets that the step registers go into the job's masker. */
export function createStepLog(
  masker: SecretMasker,
  options: {
    /** Debug messages are shown. */
    readonly isDebugging: boolean;
    readonly onLine: (line: string) => void;
  },
): StepLog {
  const annotations: Annotation[] = [];
  const outputs: FileCommandEntry[] = [];
  const state: FileCommandEntry[] = [];
  const shown: string[] = [];
  const raw: string[] = [];
  let droppedAnnotations = 0;
  let hasFailed = false;
  let stopToken: string | undefined;
  let isEchoing = false;

  const show = (line: string): void => {
    const masked = masker.mask(line);
    shown.push(masked);
    options.onLine(masked);
  };
  const annotate = (
    level: AnnotationLevel,
    message: string,
    properties: Readonly<Record<string, string>> = {},
  ): void => {
    for (const [index, part] of message.split(/\r\n|\n|\r/).entries()) {
      show(index === 0 ? `##[${level}]${part}` : part);
    }
    if (annotations.filter((other) => other.level === level).length >= MAX_ANNOTATIONS) {
      droppedAnnotations += 1;
    } else {
      annotations.push({ level, message: masker.mask(message), properties });
    }
  };
  const obey = (command: WorkflowCommand, line: string): void => {
    const { name, properties, data } = command;
    // Before the echo, which would print it.
    if (name === "add-mask") masker.add(data);
    if (isEchoing) show(line);
    switch (name) {
      case "error":
      case "warning":
      case "notice":
        return annotate(name, data, properties);
      case "debug":
        return options.isDebugging ? show(`##[debug]${data}`) : undefined;
      case "group":
        return show(`##[group]${data}`);
      case "endgroup":
        return show("##[endgroup]");
      case "set-output":
        return void outputs.push([properties["name"] ?? "", data]);
      case "save-state":
        return void state.push([properties["name"] ?? "", data]);
      case "stop-commands":
        stopToken = data;
        return undefined;
      case "echo":
        isEchoing = data === "on";
        return undefined;
      case "add-mask":
      case "add-matcher":
      case "remove-matcher":
        return undefined;
      default:
        if (DISABLED.has(name)) {
          hasFailed = true;
          return annotate("error", `The \`${name}\` command is disabled.`);
        }
        return show(line);
    }
  };

  return {
    annotations,
    outputs,
    state,
    get droppedAnnotations() {
      return droppedAnnotations;
    },
    get hasFailed() {
      return hasFailed;
    },
    get text() {
      return shown.map((line) => `${line}\n`).join("");
    },
    get rawText() {
      return raw.map((line) => `${line}\n`).join("");
    },
    line(line) {
      raw.push(line);
      const command = parseWorkflowCommand(line);
      if (stopToken !== undefined) {
        if (command?.name === stopToken.toLowerCase()) stopToken = undefined;
        else show(line);
        return;
      }
      if (command === undefined) show(line);
      else obey(command, line);
    },
    annotate,
  };
}
