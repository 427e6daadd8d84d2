/**
 * More are lost than a sum can do without, or more were asked than are needed: five members, of which four open a sum and three are enough.
 * A round that is planned again keeps what was trained.
 */
import { cutLink, restoreLink } from "../../../cluster/faults.ts";
import { killProcess } from "../../failures/crashes.ts";
import { atStep } from "../../failures/rounds.ts";
import { EVERYBODY } from "../arena.ts";
import type { Fault } from "../fault.ts";

const again = (without: Readonly<Record<string, RegExp>>): Fault["at"] => ({
  training: { phase: "Succeeded", without, attempt: 2 },
});

export const attempts: readonly Fault[] = [
  {
    name: "two of five trainers crash: planned again without them",
    slug: "two-crash",
    quick: true,
    at: again({ north: /^TrainerCrashed$/, west: /^TrainerCrashed$/ }),
    federation: EVERYBODY,
    behave: { north: "crash", west: "crash" },
    strike: async () => undefined,
  },
  {
    name: "two of five cut off while keys are shared, and the operator killed: planned again without them",
    slug: "two-cut",
    at: again({ east: /^ShareDeadline$/, guest: /^ShareDeadline$/ }),
    federation: EVERYBODY,
    // Shares have 15 % of it, on a machine that is busy.
    spec: { deadlines: { aggregation: "4m" } },
    // The others have advertised their keys and wait for north's.
    behave: { south: "train", west: "train", east: "train", guest: "train" },
    async strike({ under }, [round]) {
      await atStep(under, round!.name, { step: "advertise", answered: 4 });
      // The guest's line too.
      await cutLink("east");
      killProcess("coordinator", "operator");
    },
    also: () => restoreLink("east"),
  },
  {
    name: "a straggler where three of four are enough (overselect)",
    slug: "straggler",
    quick: true,
    at: { training: { phase: "Succeeded", without: { north: /^NotNeeded$/ } } },
    spec: { participants: { sample: { count: 3, overselect: 1 } } },
    behave: { north: "hang", south: "train", west: "train", east: "train" },
    strike: async () => undefined,
  },
];
