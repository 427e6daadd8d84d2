/** What the ledger knows that bears on a plan, gathered for its judgement (policy.ts). */
import type { Plan } from "../round/plan.ts";
import type { Ledger } from "./ledger.ts";
import type { Seen } from "./policy.ts";

export async function seenOf(ledger: Ledger, plan: Plan): Promise<Seen> {
  const number = plan.secure?.draw?.number;
  const draw = number === undefined ? undefined : await ledger.draws.of({ ...plan, number });
  return {
    ...(await ledger.seen(plan)),
    forgottenRound: await ledger.sessions.forgotten(plan.federation),
    spent: await ledger.sessions.spentByOthers({
      federation: plan.federation,
      round: plan.round,
      attempt: plan.attempt,
      parent: plan.parent.digest,
    }),
    pins: await ledger.pins.of(plan.federation),
    ...(draw ? { draw } : {}),
  };
}
