/** One case: a federation with one round, in which one program dies after one effect and is started again; then the outcome is judged. */
import { setTimeout as sleep } from "node:timers/promises";
import { createFederation, deleteFederation, type FaultFederation, type ProgramName, until } from "./federation.ts";
import type { Moment } from "./names.ts";
import { expectWholeOutcome, hasEnded, leftovers } from "./outcome.ts";

/** A round takes a second or two, and a death a few more; beyond this it hangs. */
const MOST_MS = 40_000;
/** "Gone within a minute"; with nobody dead it is a matter of milliseconds. */
const MOST_CLEANING_MS = 20_000;
/** What a process does on its own clock (Lease, attendance) comes at the latest after this. */
const PERIODIC_MS = 2_500;

export interface Death {
  program: ProgramName;
  at: Moment;
}

let cases = 0;

/**
 * @param death  none: nobody dies, which is how effects are listed
 * @returns whether the program died, and how long the case took
 */
export async function runCase(
  federation: FaultFederation,
  death?: Death,
): Promise<{ id: string; wasKilled: boolean; seconds: number }> {
  const startMs = Date.now();
  const name = `f${++cases}`;
  const programs = Object.entries(federation.programs) as Array<[ProgramName, FaultFederation["programs"]["operator"]]>;
  for (const [program, running] of programs) {
    const kill = death?.program === program ? { kill: death.at } : {};
    running.give({ id: name, federation: name, ...kill });
  }
  const wasKilled = () => death !== undefined && federation.programs[death.program].wasKilledIn(name);
  await createFederation(federation, name);
  await until(`the round of ${name} has ended`, MOST_MS, () => hasEnded(federation, name));
  await expectWholeOutcome(federation, name);
  await expectNothingLeft(federation);
  await deleteFederation(federation, name);
  if (death !== undefined && !wasKilled()) await Promise.race([sleep(PERIODIC_MS), died(wasKilled)]);
  for (const [, running] of programs) await running.ready();
  const surprises = programs.flatMap(([program, { surprises: of }]) => of.splice(0).map((why) => `${program}: ${why}`));
  if (surprises.length > 0) throw new Error(`ended by itself: ${surprises.join("; ")}`);
  return { id: name, wasKilled: wasKilled(), seconds: (Date.now() - startMs) / 1000 };
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

async function died(wasKilled: () => boolean): Promise<void> {
  while (!wasKilled()) await sleep(30);
}
