/**
 * What a federation learns: on the demo's real model and non-IID text, each site alone, all together through rounds, and all text in one place,
 * scored on every participant's held-out text (learn.py trains; this starts it, two at a time, and makes the table and docs/learning.svg).
 */
import { appendFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { cacheDir } from "../../cluster/layout.ts";
import type { Benchmark } from "../main.ts";
import { pythonJson } from "../python.ts";
import { above, type Result, round } from "../report.ts";
import { plot } from "./plot.ts";

const ROOT = join(import.meta.dirname, "../../..");
const SEEDS = [1, 2, 3];
/** The last three: one seed each. */
const ARMS = [
  "initial",
  "local",
  "federated",
  "centralised",
  "centralised-short",
  "fedprox",
  "freezeA",
  "recordPrivacy",
] as const;
type Arm = (typeof ARMS)[number];
const WITH_ONE_SEED: readonly Arm[] = ["fedprox", "freezeA", "recordPrivacy"];

/** losses: by site, in nats per token; of `local` for each site's adapter, of what has rounds for each round. */
export interface Learnt {
  arm: Arm;
  seed: number;
  losses: Array<Record<string, number>>;
}

export const run: Benchmark = async () => {
  const folder = join(ROOT, ".rondo/bench");
  mkdirSync(folder, { recursive: true });
  // An hour of work: what is there from a run that was cut off is not done again.
  const kept = join(folder, "learning.jsonl");
  const learnt: Learnt[] = existsSync(kept)
    ? readFileSync(kept, "utf8")
        .trim()
        .split("\n")
        .filter(Boolean)
        .map((line) => JSON.parse(line))
    : [];
  const todo = ARMS.flatMap((arm) =>
    (WITH_ONE_SEED.includes(arm) ? SEEDS.slice(0, 1) : SEEDS).map((seed) => ({ arm, seed })),
  ).filter((job) => !learnt.some(({ arm, seed }) => arm === job.arm && seed === job.seed));
  const total = todo.length + learnt.length;
  const worker = async () => {
    for (let job = todo.shift(); job; job = todo.shift()) {
      const found = await learn(job.arm, job.seed);
      appendFileSync(kept, `${JSON.stringify(found)}\n`);
      learnt.push(found);
      console.log(
        `${learnt.length}/${total} ${job.arm}, seed ${job.seed}: ${scoreOf(found).toFixed(3)} nats per token`,
      );
    }
  };
  await Promise.all(Array.from({ length: Math.min(2, availableParallelism()) }, worker));
  writeFileSync(join(ROOT, "docs/learning.svg"), plot(learnt));
  return { results: resultsOf(learnt), notes: NOTES };
};

function learn(arm: Arm, seed: number): Promise<Learnt> {
  const folders = [join(cacheDir, "models/smollm2-135m-instruct"), join(cacheDir, "data")];
  return pythonJson<Learnt>([join(import.meta.dirname, "learn.py"), arm, String(seed), ...folders], `${arm} ${seed}`);
}

export const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

/** Over the sites: each weighs the same. Of `local` over the adapters too; of what has rounds, after the last. */
export function scoreOf({ arm, losses }: Learnt): number {
  const over = (found: Record<string, number>) => mean(Object.values(found));
  return arm === "local" ? mean(losses.map(over)) : over(losses.at(-1)!);
}

function resultsOf(learnt: readonly Learnt[]): Result[] {
  const scores = (arm: Arm) => learnt.filter((one) => one.arm === arm).map(scoreOf);
  const figures = ARMS.map((arm): Result => {
    const found = scores(arm);
    const spread =
      found.length > 1
        ? `, ${found.length} seeds from ${round(Math.min(...found), 3)} to ${round(Math.max(...found), 3)}`
        : ", one seed";
    return { name: `${arm}${spread}`, value: round(mean(found), 3), unit: "nats per token" };
  });
  const [local, federated] = [mean(scores("local")), mean(scores("federated"))];
  const closed = (arm: Arm) => round((100 * (local - federated)) / (local - mean(scores(arm))), 1);
  return [
    ...figures,
    above(
      { name: "gap between local-only and centralised that federated closes", value: closed("centralised"), unit: "%" },
      90,
    ),
    {
      name: "the same against centralised with one site's number of steps",
      value: closed("centralised-short"),
      unit: "%",
    },
  ];
}

const NOTES = [
  "SmolLM2-135M-Instruct, LoRA rank 8 on q_proj and v_proj; chemistry, computing, hackers, satire: four dictionaries as four sites; 4 examples of at most 64 tokens in a step, AdamW 1e-3.",
  "federated: 10 rounds of 8 steps at each of four sites; local: 80 steps at one; centralised: 320 steps, the four sites' text in turn (-short: 80).",
  "fedprox: mu 0.1. freezeA: A as it was drawn. recordPrivacy: DP-SGD, epsilon 8 over the ten rounds at delta 1e-5, each site with the least noise for it.",
  "Scored on up to 48 held-out records of each site, each site with the same weight.",
];
