/** What a person may ask of the demo; everything wrong is refused in one sentence before anything is started. */
import { parseArgs } from "node:util";
import { SITES, type Site } from "./sites.ts";

export type ModelName = "smollm2" | "tiny";

export interface DemoOptions {
  command: "up" | "down";
  rounds: number;
  sites: readonly Site[];
  model: ModelName;
  /** Training steps per participant and round. */
  steps: number;
  /** When `make demo` began, set-up included. */
  startedMs: number;
}

const DEFAULT_STEPS: Record<ModelName, number> = { smollm2: 6, tiny: 20 };

/**
 * @param argv  `up --rounds N --participants N --model smollm2|tiny --steps N --started <seconds since 1970>`, or `down`
 * @throws Error with one sentence for a person, when an argument is out of range
 */
export function demoOptions(argv: string[], nowMs: number): DemoOptions {
  const { values, positionals } = parseArgs({
    args: argv,
    allowPositionals: true,
    options: {
      rounds: { type: "string", default: "2" },
      participants: { type: "string", default: String(SITES.length) },
      model: { type: "string", default: "smollm2" },
      steps: { type: "string" },
      started: { type: "string" },
    },
  });
  const command = positionals[0] ?? "up";
  if (command !== "up" && command !== "down") throw new Error(`Unknown command ${command}: use up or down.`);
  const { model } = values;
  if (model !== "smollm2" && model !== "tiny") throw new Error(`MODEL=${model} is unknown: use smollm2 or tiny.`);
  const participants = wholeNumber("PARTICIPANTS", values.participants, 2, SITES.length);
  return {
    command,
    rounds: wholeNumber("ROUNDS", values.rounds, 1, 1000),
    sites: SITES.slice(0, participants),
    model,
    steps: values.steps === undefined ? DEFAULT_STEPS[model] : wholeNumber("STEPS", values.steps, 1, 10_000),
    startedMs: values.started === undefined ? nowMs : Number(values.started) * 1000,
  };
}

function wholeNumber(name: string, text: string, least: number, most: number): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw new Error(`${name}=${text} is out of range: it is a whole number from ${least} to ${most}.`);
}
