/** All that may happen to a simulated round, as fast-check draws it. */
import fc from "fast-check";
import type { AnswerStep } from "../cohorts.ts";
import type { Report } from "../reports.ts";
import type { Simulation } from "./simulation.ts";
import { known, TERMS } from "./worlds.ts";

export const TEN = ["ann", "ben", "cy", "dee", "eve", "fay", "gus", "hal", "ida", "joe"];

const name = fc.constantFrom(...TEN);
const anybody = fc.constantFrom(...TEN, "mallory");
const report: fc.Arbitrary<Report> = fc.oneof(
  fc.constant({ kind: "accept" as const }),
  fc.record({ kind: fc.constantFrom("refuse" as const, "fail" as const), reason: fc.string(), message: fc.string() }),
  fc.record({
    kind: fc.constant("fail" as const),
    reason: fc.constant("BadShare"),
    message: fc.constant("x"),
    accused: fc.array(anybody, { maxLength: 3 }),
  }),
  fc.record({
    kind: fc.constant("status" as const),
    state: fc.constantFrom("Scheduling", "Training", "Trained", "Sharing", "Contributed", "Nonsense"),
    job: fc.string(),
    step: fc.nat(30),
    steps: fc.nat(20),
    reason: fc.string(),
    message: fc.string(),
  }),
);
const is = <T extends string>(at: T) => fc.constant(at);
export const event = fc.oneof(
  // So that rounds get far: everybody does what is next for it, and the operator what it decided.
  {
    weight: 70,
    arbitrary: fc.record({
      at: is("everybody"),
      but: fc.oneof({ weight: 3, arbitrary: fc.constant<string[]>([]) }, fc.subarray(TEN, { maxLength: 2 })),
    }),
  },
  { weight: 4, arbitrary: fc.record({ at: is("acts"), name }) },
  { weight: 4, arbitrary: fc.record({ at: is("crash"), most: fc.nat(3) }) },
  { weight: 2, arbitrary: fc.record({ at: is("connects"), name, is: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ at: is("fails"), names: fc.constantFrom(["ann"], ["ben"], ["eve"]) }) },
  // As many as a cohort of five or six can just not lose.
  {
    weight: 2,
    arbitrary: fc.record({ at: is("fails"), names: fc.subarray(TEN.slice(0, 6), { minLength: 2, maxLength: 3 }) }),
  },
  { weight: 2, arbitrary: fc.record({ at: is("clock"), ms: fc.nat(60_000) }) },
  { weight: 3, arbitrary: fc.record({ at: is("deadline") }) },
  fc.record({ at: is("reports"), name: anybody, report }),
  fc.record({
    at: is("answers"),
    name,
    step: fc.constantFrom<AnswerStep>("advertise", "share", "consistency", "unmask"),
  }),
  fc.record({ at: is("uploads"), name, attempt: fc.integer({ min: 1, max: 3 }), again: fc.boolean() }),
  fc.record({ at: is("faults"), name }),
  fc.record({ at: is("revoke"), name }),
  fc.record({ at: is("refuseInSum"), name }),
  fc.record({
    at: is("closes"),
    cohort: fc.nat(1),
    code: fc.constantFrom("InconsistentDealer" as const, "NotEnoughShares" as const, "SumInvalid" as const),
  }),
  fc.record({ at: is("breaks"), what: fc.constantFrom("plan" as const, "candidate" as const), is: fc.boolean() }),
  fc.record({ at: is("push"), how: fc.constantFrom("published" as const, "unreachable" as const, "refused" as const) }),
  fc.record({ at: is("federation"), is: fc.constantFrom("unknown", "making", "suspended", "ready", "ready") }),
  fc.record({ at: is("storage"), isFull: fc.boolean() }),
  fc.record({ at: is("earlier"), is: fc.boolean() }),
);
/** Once at most, and seldom: most rounds should get far. */
export const ending = fc.option(fc.record({ at: fc.nat(200), how: fc.constantFrom("cancelled", "deleting") }), {
  freq: 4,
});
export type Event = typeof event extends fc.Arbitrary<infer E> ? E : never;

export function happen(sim: Simulation, e: Event): void {
  switch (e.at) {
    case "everybody":
      sim.work();
      for (const one of sim.agents.keys()) if (!e.but.includes(one)) sim.act(one);
      sim.pushEnds("published");
      break;
    case "acts":
      if (sim.agents.has(e.name)) sim.act(e.name);
      break;
    case "crash":
      sim.work(e.most);
      break;
    case "connects":
      if (sim.agents.has(e.name)) sim.agents.get(e.name)!.isConnected = e.is;
      break;
    case "fails":
      for (const one of e.names) sim.report(one, { kind: "fail", reason: "OutOfMemory", message: "killed" });
      break;
    case "clock":
      sim.pass(e.ms);
      break;
    case "deadline":
      sim.pass(Math.max(0, Math.min(sim.lookAgainAtMs ?? 0, sim.nowMs + TERMS.trainingMs) - sim.nowMs));
      break;
    case "reports":
      sim.report(e.name, e.report);
      break;
    case "answers":
      sim.answer(e.name, e.step);
      break;
    case "uploads":
      sim.upload(e.name, e.attempt, e.again ? `other-${e.attempt}` : undefined);
      break;
    case "faults":
      sim.fault(e.name);
      break;
    default:
      changes(sim, e);
  }
}

function changes(sim: Simulation, e: Event): void {
  switch (e.at) {
    case "revoke":
      sim.revoke(e.name);
      break;
    case "refuseInSum":
      sim.refuseInSum(e.name);
      break;
    case "closes":
      sim.close(e.cohort, e.code);
      break;
    case "breaks":
      if (e.is) sim.broken.add(e.what);
      else sim.broken.delete(e.what);
      break;
    case "push":
      sim.pushEnds(e.how);
      break;
    case "federation":
      sim.change({ federation: federation(sim, e.is) });
      break;
    case "storage":
      sim.change({ storage: e.isFull ? { problem: "the volume is full" } : undefined } as never);
      break;
    case "earlier":
      sim.change({ earlier: e.is ? "fed-r0" : undefined } as never);
      break;
    default:
  }
}

export function federation({ setting }: Simulation, what: string) {
  if (what === "unknown") return { kind: "unknown" as const };
  const candidates = setting.names.map((one) => ({ name: one, enrolled: true, suspended: false }));
  const adapter = { kind: what === "making" ? ("making" as const) : ("ready" as const) };
  return { ...known(), terms: setting.terms, candidates, adapter, suspended: what === "suspended" };
}
