/**
 * Every lasting effect of the operator and of one agent in a whole secure round is the last thing that the process does, once; started again, it
 * ends the round as if nothing had happened. `make test` takes a spread of the effects, `make chaos` (RONDO_FAULTS=all) all of them.
 */
import { appendFileSync, cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Death, runCase } from "./case.ts";
import { type FaultFederation, type ProgramName, startFederation } from "./federation.ts";
import type { Moment } from "./names.ts";

const ALL = process.env.RONDO_FAULTS === "all";
/** Of one program, in `make test`. */
const SPREAD = { operator: 12, "site-1": 8 };
/** Effects that only some runs have (two writes of a status that another run made in one): this share may not be met. */
const MOST_UNMET = 0.15;
const REPORT = join(import.meta.dirname, "../../../.rondo/test/faults");

let federation: FaultFederation;
let folder: string;
const effects = { operator: [] as Moment[], "site-1": [] as Moment[] };

beforeAll(async () => {
  rmSync(REPORT, { recursive: true, force: true });
  mkdirSync(REPORT, { recursive: true });
  await begin();
  await runCase(federation); // what only a first round has, such as pins, is not what the others are compared with
  const { id } = await runCase(federation);
  for (const program of ["operator", "site-1"] as const) effects[program] = federation.programs[program].effectsOf(id);
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

test.each([
  { program: "operator", kinds: ["api", "file", "grpc", "journal", "push"] },
  { program: "site-1", kinds: ["api", "file", "grpc", "journal"] },
] as const)("the list of effects of $program has every kind", ({ program, kinds }) => {
  const found = new Set(effects[program].map(({ effect }) => effect.slice(0, effect.indexOf(":"))));
  expect([...found].sort()).toEqual(kinds);
});

test.each(["operator", "site-1"] as const)(
  "%s may die after any of its effects: the round succeeds with all four, once, and leaves nothing",
  async (program) => {
    const chosen = ALL ? effects[program] : spread(effects[program], SPREAD[program]);
    const results: Result[] = [];
    for (const at of chosen) {
      const result = await judged({ program, at });
      results.push(result);
      appendFileSync(join(REPORT, `${program}.txt`), `${line(result)}\n`);
    }
    const failed = results.filter(({ problem }) => problem !== undefined);
    expect(failed.map(line)).toEqual([]);
    const unmet = results.filter(({ outcome }) => outcome === "not met");
    expect(unmet.length, unmet.map(line).join("\n")).toBeLessThanOrEqual(Math.ceil(results.length * MOST_UNMET));
  },
  ALL ? 3 * 3_600_000 : 300_000,
);

interface Result extends Death {
  outcome: "same" | "not met" | "different";
  seconds: number;
  problem?: string;
}

/** A case that fails may have broken the federation for the next: that one gets a new one, and the broken one's files are kept. */
async function judged(death: Death): Promise<Result> {
  const startMs = Date.now();
  try {
    const { wasKilled, seconds } = await runCase(federation, death);
    return { ...death, outcome: wasKilled ? "same" : "not met", seconds };
  } catch (error) {
    const problem = error instanceof Error ? error.message : String(error);
    const result: Result = { ...death, outcome: "different", seconds: (Date.now() - startMs) / 1000, problem };
    keepFiles(death.program, result);
    await end();
    await begin();
    return result;
  }
}

function keepFiles(program: ProgramName, result: Result): void {
  const kept = join(REPORT, `${program}-${Date.now()}`);
  cpSync(folder, kept, { recursive: true, filter: (path) => !/dist|kubeconfig|\.sock$|\.db|sqlite/.test(path) });
  writeFileSync(join(kept, "case.txt"), line(result));
}

function line({ program, at, outcome, seconds, problem = "" }: Result): string {
  return `${outcome.padEnd(9)} ${seconds.toFixed(1).padStart(5)} s  ${program} after ${at.effect} #${at.nth}  ${problem}`;
}

/** Evenly over the round's time, the first and the last among them. */
function spread(moments: Moment[], count: number): Moment[] {
  return Array.from({ length: count }, (_, i) => moments[Math.round((i * (moments.length - 1)) / (count - 1))]!);
}
