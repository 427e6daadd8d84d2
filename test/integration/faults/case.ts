/** One case: a federation with one round, in which one program dies after one effect and is started again; then the outcome is judged. */
import { setTimeout as sleep } from "node:timers/promises";
import {
  createFederation,
  deleteFederation,
  type FaultFederation,
  type ProgramName,
  type SiteName,
} from "./federation.ts";
import { until } from "./installation.ts";
import type { Moment } from "./names.ts";
import { expectOutcome, hasEnded, leftovers } from "./outcome.ts";
import type { Scenario } from "./scenarios.ts";

/** A round takes a second or two, and a death a few more; on a machine that is busy with other things ten times that. */
const MOST_MS = 60_000;
/** "Gone within a minute"; with nobody dead it is a matter of milliseconds. */
const MOST_CLEANING_MS = 40_000;
/** What a process does on its own clock (Lease, attendance) comes at the latest after this. */
const PERIODIC_MS = 2_500;

export interface Death {
  program: ProgramName;
  at: Moment;
}

export interface CaseResult {
  /** What each program did from the end of `scenario.during` on. */
  effects(program: ProgramName): Moment[];
  /** Whether the process died: an effect need not come in every run. */
  wasKilled: boolean;
  seconds: number;
}

let cases = 0;

/** @param death  none: only those die who do in the scenario, which is how effects are listed */
export async function runCase(federation: FaultFederation, scenario: Scenario, death?: Death): Promise<CaseResult> {
  const startMs = Date.now();
  const name = `f${++cases}`;
  give(federation, name, { ...scenario.deaths, ...(death && { [death.program]: death.at }) });
  for (const site of Object.keys(scenario.deaths) as SiteName[]) federation.programs[site].leaveDead();
  const hasDied = (program: ProgramName) => federation.programs[program].wasKilledIn(name);
  const wasKilled = () => death !== undefined && hasDied(death.program);
  await createFederation(federation, name, scenario);
  const isOver = until(`the round of ${name} has ended`, MOST_MS, () => hasEnded(federation, name));
  await Promise.race([scenario.during(federation, hasDied), isOver]);
  const before = Object.fromEntries(
    Object.entries(federation.programs).map(([program, running]) => [program, running.effectsOf(name).length]),
  );
  await isOver;
  await expectOutcome(federation, name, scenario);
  await scenario.after(federation);
  await expectNothingLeft(federation);
  await deleteFederation(federation, name);
  for (const endMs = Date.now() + PERIODIC_MS; death !== undefined && !wasKilled() && Date.now() < endMs; )
    await sleep(30);
  await expectAllUp(federation);
  return {
    effects: (program) => federation.programs[program].effectsOf(name).slice(before[program]),
    wasKilled: wasKilled(),
    seconds: (Date.now() - startMs) / 1000,
  };
}

function give(federation: FaultFederation, name: string, deaths: Partial<Record<ProgramName, Moment>>): void {
  for (const [program, running] of Object.entries(federation.programs)) {
    const kill = deaths[program as ProgramName];
    running.give({ id: name, federation: name, ...(kill && { kill }) });
  }
}

async function expectNothingLeft(federation: FaultFederation): Promise<void> {
  let left: string[] = [];
  await until("nothing is left", MOST_CLEANING_MS, async () => {
    left = await leftovers(federation);
    return left.length === 0;
  }).catch((error: Error) => {
    throw new Error(`${error.message}, but ${left.join(", ")}`);
  });
}

/** And nobody has ended but by order. */
async function expectAllUp({ programs }: FaultFederation): Promise<void> {
  const surprises: string[] = [];
  for (const [name, running] of Object.entries(programs)) {
    await running.ready();
    surprises.push(...running.surprises.splice(0).map((why) => `${name}: ${why}`));
  }
  if (surprises.length > 0) throw new Error(`ended by itself: ${surprises.join("; ")}`);
}
