/**
 * Every lasting effect of the operator and of one agent in a whole secure round is the last thing that the process does, once; started again, it
 * ends the round as if nothing had happened. `make test` takes a spread of the effects, `make chaos` (RONDO_FAULTS=all) all of them.
 */
import { appendFileSync, cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Death, runCase } from "./case.ts";
import { type FaultFederation, startFederation } from "./federation.ts";
import type { Moment } from "./names.ts";
import { fromNothing, oneAttempt, type Scenario, secondAttempt, trusted } from "./scenarios.ts";

const ALL = process.env.RONDO_FAULTS === "all";
/** Effects that only some runs have (two writes of a status that another run made in one): this share may not be met. */
const MOST_UNMET = 0.15;
/** Tables, and the files of cases that failed. */
const REPORT = join(import.meta.dirname, "../../../.rondo/test/faults");
/** Who dies: of the sites one stands for all. */
type Mortal = "operator" | "site-1";
const KINDS = { operator: ["api", "file", "grpc", "journal", "push"], "site-1": ["api", "file", "grpc", "journal"] };

let federation: FaultFederation;
let folder: string;

beforeAll(async () => {
  rmSync(REPORT, { recursive: true, force: true });
  mkdirSync(REPORT, { recursive: true });
  await begin();
}, 180_000);
afterAll(() => end());

async function begin(): Promise<void> {
  folder = mkdtempSync(join(tmpdir(), "rondo-faults-"));
  federation = await startFederation(folder);
}

async function end(): Promise<void> {
  await federation?.[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
}

/** `most`: deaths of each program in `make test`. */
describe.each([
  {
    scenario: oneAttempt,
    most: { operator: 7, "site-1": 3 },
  },
  {
    scenario: fromNothing,
    most: { operator: 2 },
  },
  {
    scenario: trusted,
    most: { operator: 3, "site-1": 2 },
  },
  {
    scenario: secondAttempt,
    most: { operator: 3, "site-1": 2 },
  },
] satisfies Array<{ scenario: Scenario; most: Partial<Record<Mortal, number>> }>)(
  "$scenario.says",
  ({ scenario, most }) => {
    const mortals = Object.entries(most) as Array<[Mortal, number]>;
    const effects = new Map<Mortal, Moment[]>();

    beforeAll(async () => {
      // Else the list has what a process does once and not in each round; of a spread that is too little to matter.
      if (ALL) await runCase(federation, scenario);
      const { effects: of } = await runCase(federation, scenario);
      for (const [program] of mortals) {
        const all = of(program);
        const last = all.findIndex(({ effect }) => effect === scenario.upTo);
        effects.set(program, last < 0 ? all : all.slice(0, last + 1));
        const names = effects.get(program)!.map(said).join("\n");
        writeFileSync(join(REPORT, `effects of ${program} in ${scenario.says}.txt`), names);
      }
    }, 120_000);

    test.each(mortals)("%s has effects of every kind", (program) => {
      const found = new Set(effects.get(program)!.map(({ effect }) => effect.slice(0, effect.indexOf(":"))));
      expect(KINDS[program].filter((kind) => !found.has(kind))).toEqual(scenario.upTo ? ["grpc"] : []);
    });

    test.each(mortals)(
      "%s may die after any of its effects: the outcome is the same, and nothing is left",
      async (program, some) => {
        const chosen = ALL ? effects.get(program)! : spread(effects.get(program)!, some);
        const results: Result[] = [];
        for (const at of chosen) {
          const result = await judged(scenario, { program, at });
          results.push(result);
          appendFileSync(join(REPORT, `${program} in ${scenario.says}.txt`), `${line(result)}\n`);
        }
        expect(results.filter(({ outcome }) => outcome === "different").map(line)).toEqual([]);
        const unmet = results.filter(({ outcome }) => outcome === "not met");
        expect(unmet.length, unmet.map(line).join("\n")).toBeLessThanOrEqual(1 + results.length * MOST_UNMET);
      },
      ALL ? 3 * 3_600_000 : 300_000,
    );
  },
);

interface Result extends Death {
  outcome: "same" | "not met" | "different";
  seconds: number;
  problem?: string;
}

/** A case that fails may have broken the federation for the next: that one gets a new one, and the broken one's files are kept. */
async function judged(scenario: Scenario, death: Death): Promise<Result> {
  const startMs = Date.now();
  try {
    const { wasKilled, seconds } = await runCase(federation, scenario, death);
    return { ...death, outcome: wasKilled ? "same" : "not met", seconds };
  } catch (error) {
    const problem = error instanceof Error ? error.message : String(error);
    const result: Result = { ...death, outcome: "different", seconds: (Date.now() - startMs) / 1000, problem };
    keepFiles(result);
    await end();
    await begin();
    return result;
  }
}

function keepFiles(result: Result): void {
  const kept = join(REPORT, `${result.program}-${Date.now()}`);
  cpSync(folder, kept, {
    recursive: true,
    filter: (path) => !/dist|kubeconfig|invitation|\.sock$|\.db|sqlite|data\//.test(path),
  });
  writeFileSync(join(kept, "case.txt"), line(result));
}

function said({ effect, nth }: Moment): string {
  return `${effect} #${nth}`;
}

function line({ program, at, outcome, seconds, problem = "" }: Result): string {
  return `${outcome.padEnd(9)} ${seconds.toFixed(1).padStart(5)} s  ${program} after ${said(at)}  ${problem}`.trimEnd();
}

/** Evenly over the round's time, the first and the last among them. */
function spread(moments: Moment[], count: number): Moment[] {
  return Array.from({ length: count }, (_, i) => moments[Math.round((i * (moments.length - 1)) / (count - 1))]!);
}
