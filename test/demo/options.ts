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

/** No agent takes part in a smaller one, whatever its policy says (secure-aggregation.md section 4). */
const SMALLEST_COHORT = 3;
/** What an agent demands unless its site lowers it; the demo's sites do, because there are only four of them. */
const DEFAULT_MIN_COHORT = 5;

/** `policy.minCohort` of the demo's agents. */
export const minCohortOf = (sites: readonly Site[]) =>
  Math.max(SMALLEST_COHORT, Math.min(sites.length, DEFAULT_MIN_COHORT));

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
  const participants = values.participants;
  if (["1", "2"].includes(participants)) {
    throw new Error(
      `PARTICIPANTS=${participants} is too few for secure aggregation: in a sum of two each subtracts itself and sees the other. Use 3 or 4.`,
    );
  }
  return {
    command,
    rounds: wholeNumber("ROUNDS", values.rounds, 1, 1000),
    sites: SITES.slice(0, wholeNumber("PARTICIPANTS", participants, SMALLEST_COHORT, SITES.length)),
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
