/** What goes wrong, when, and what has to come of it: the words in which faults/*.ts are written. */
import type { FederationRound } from "../../../operator/api/federation-round.ts";
import type { Behaviour } from "../failures/site.ts";
import type { Arena } from "./arena.ts";
import type { Moment, RoundAt } from "./moments.ts";

/** What becomes of a round. */
export interface Expected {
  /** Deleted: the object is gone. */
  phase: "Succeeded" | "Failed" | "Cancelled" | "Deleted";
  /** Of a round that failed. */
  reason?: string;
  /** Participants without which it went on, with the reason in their row. Everybody else contributed. */
  without?: Readonly<Record<string, RegExp>>;
  /** Above 1 where members were left out and the rest began again. */
  attempt?: number;
}

export interface Fault {
  name: string;
  /** Of its rounds' names: at most 12 letters. */
  slug: string;
  at: Partial<Record<Moment, Expected>>;
  /** Runs in `make test` too. */
  quick?: true;
  /** Of its only round; by itself every moment has its own. */
  federation?: string;
  /** Overrides of every round. */
  spec?: Partial<FederationRound["spec"]>;
  /** What a site's trainers do, from the start. */
  behave?: Readonly<Record<string, Behaviour>>;
  /** Before its rounds are made. */
  prepare?(arena: Arena): Promise<void>;
  strike(arena: Arena, rounds: readonly RoundAt[]): Promise<void>;
  /** It goes on for as long as the run's outages are, or for 20 s of it; else what follows comes at once. */
  lasts?: "outage" | "briefly";
  /** What has kept the rounds goes on keeping them until the end of the fault; by itself they go on while it lasts. */
  holds?: true;
  /** Ends it. */
  heal?(arena: Arena, rounds: readonly RoundAt[]): Promise<void>;
  /** Anything else that has to be so once all rounds are over. */
  also?(arena: Arena, rounds: readonly RoundAt[]): Promise<void>;
  /** Puts the arena back, where that needs more than Arena.mend(). */
  restore?(arena: Arena): Promise<void>;
}

export const succeeds: Expected = { phase: "Succeeded" };

export const without = (names: Readonly<Record<string, RegExp>>): Expected => ({ phase: "Succeeded", without: names });

export const fails = (reason: string): Expected => ({ phase: "Failed", reason });

/** The same at each of these moments. */
export function each(moments: readonly Moment[], expected: Expected): Partial<Record<Moment, Expected>> {
  return Object.fromEntries(moments.map((moment) => [moment, expected]));
}
