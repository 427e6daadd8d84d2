/**
 * Over-selection: a round that has as many contributions as it wants does not wait for more (api.md `participants.sample.overselect`).
 * Holds: nobody is left behind before enough are there for good: in the sum of a trusted round; in a secure one in the set that is then
 *   closed, U1 or U3, with every cohort at its threshold at least. Between the two a straggler may still fail, as in any round.
 */
import { awaited, counted } from "./cohorts.ts";
import type { Sifted } from "./members.ts";
import { changed, isSettled, NOT_NEEDED } from "./participants.ts";
import type { RoundRecord } from "./record.ts";
import type { Action, World } from "./world.ts";

export function leaveStragglers({ record, actions }: Sifted, world: World): Sifted {
  const enough = record.plan?.enough;
  if (enough === undefined) return { record, actions };
  const late = record.secure ? lateInCohorts(record, enough) : lateInSum(record, enough, world);
  if (late.length === 0) return { record, actions };
  const why = {
    reason: NOT_NEEDED,
    message: `${enough} contributions are all that the round wants, and they are there`,
  };
  const participants = record.participants.map((p) =>
    late.includes(p.name) ? changed(p, { state: "Excluded", ...why }, world.nowMs) : p,
  );
  const tell: Action = { do: "cancel", participants: late, ...why };
  return { record: { ...record, participants }, actions: [...actions, tell] };
}

/** A contribution counts when it could be opened: before that it may turn out to be none. */
function lateInSum(record: RoundRecord, enough: number, { sum }: World): string[] {
  const there = record.participants.filter((p) => p.state === "Contributed" && sum.added.includes(p.name));
  return there.length < enough ? [] : record.participants.filter((p) => !isSettled(p)).map((p) => p.name);
}

function lateInCohorts(record: RoundRecord, enough: number): string[] {
  const living = record.secure!.cohorts.filter(({ failure }) => !failure);
  const step = living.find(({ u3 }) => u3 === undefined)?.step;
  if (step !== "advertise" && step !== "mask") return [];
  // No cohort is closed while another one is a step behind: it may still fail, and then everybody is needed.
  if (living.some((cohort) => cohort.u3 === undefined && cohort.step !== step)) return [];
  const there = living.map((cohort) => cohort.u3?.length ?? counted(record, cohort).length);
  const areOpen = living.every(({ threshold }, i) => there[i]! >= threshold);
  if (!areOpen || there.reduce((sum, n) => sum + n, 0) < enough) return [];
  return living.filter(({ u3 }) => u3 === undefined).flatMap((cohort) => awaited(record, cohort));
}
