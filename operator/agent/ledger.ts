/**
 * What this agent has promised and done, on its journal: plans answered, one assignment per round and attempt, results; and beside them its
 * sessions of secure aggregation, pinned keys, draws, and what was spent of its records' privacy.
 * Specified: protocol.md ("its ledger"), secure-aggregation.md §6.4 (round numbers only rise).
 * Holds: a method that resolves has its writes on disk; the first plan of a round and attempt is the only one (insert, never replaced).
 * Does not: decide (policy.ts, assignment.ts).
 */
import { randomInt } from "node:crypto";
import { type Journal, JournalFault, type Write } from "../journal/journal.ts";
import { type Plan, planSchema } from "../round/plan.ts";
import { PinLedger } from "./pin-ledger.ts";
import { type Assignment, assignmentKey, assignmentSchema, hasEnded, roundKey } from "./record.ts";
import { RecordLedger } from "./record-ledger.ts";
import { DrawLedger } from "./secagg/draw-ledger.ts";
import { SessionLedger } from "./secagg/session-ledger.ts";
import type { SessionRow } from "./secagg/session-record.ts";
import type { Store } from "./store.ts";

/** Of one federation, attempts counted; older ones that have ended are forgotten, but for the highest round number. */
const KEPT_ASSIGNMENTS = 200;
const SPACE = { assignments: "assignments", plans: "plans", rounds: "highest-rounds", seeds: "seeds" } as const;
/** Exact in JSON and in every reader of it. */
const SEED_LIMIT = 2 ** 48 - 1;

/** What was answered of a federation, for judgement. */
export interface Answered {
  /** Highest round number whose plan this agent has answered; 0: none. */
  highestRound: number;
  /** Hash of the plan already answered for this very round and attempt, hex. */
  planHash?: string;
  /** The newest attempt of this very round that was answered. */
  latest?: Attempt;
}

/** An attempt that was answered: what came of it, the plan, and where its session stands. */
export interface Attempt {
  assignment: Assignment;
  plan: Plan;
  session?: SessionRow;
}

export class Ledger {
  readonly #journal: Journal;
  readonly sessions: SessionLedger;
  readonly pins: PinLedger;
  readonly draws: DrawLedger;
  readonly records: RecordLedger;

  #broken: string | undefined;

  constructor(journal: Journal) {
    this.#journal = journal;
    const store: Store = {
      get: (space, key) => journal.get(space, key),
      entries: (space, prefix) => journal.entries(space, prefix),
      commit: (writes) => this.#commit(writes),
    };
    this.sessions = new SessionLedger(store);
    this.pins = new PinLedger(store);
    this.draws = new DrawLedger(store);
    this.records = new RecordLedger(store);
  }

  /** Why nothing can be written any more, where a new process may help; a full disk is waited out. */
  get broken(): string | undefined {
    return this.#broken;
  }

  async seen(work: { federation: string; round: number; attempt: number }): Promise<Answered> {
    const highest = await this.#journal.get(SPACE.rounds, work.federation);
    const assignment = await this.assignment(work);
    const latest = await this.#latestAttempt(work);
    return {
      highestRound: highest ? Number(Buffer.from(highest).toString("utf8")) : 0,
      ...(assignment ? { planHash: assignment.planHash } : {}),
      ...(latest ? { latest } : {}),
    };
  }

  async #latestAttempt(of: { federation: string; round: number }): Promise<Attempt | undefined> {
    const value = (await this.#journal.entries(SPACE.assignments, roundKey(of))).at(-1)?.value;
    const assignment = value && decode(value);
    const plan = assignment && (await this.plan(assignment));
    if (!assignment || !plan) return undefined;
    const session = await this.sessions.row(assignment);
    return { assignment, plan, ...(session ? { session } : {}) };
  }

  /** The round's seed: drawn once, then the same for every attempt. */
  async seed(work: { federation: string; round: number }): Promise<number> {
    const key = `${work.federation}#${work.round}`;
    const kept = await this.#journal.get(SPACE.seeds, key);
    if (kept) return Number(Buffer.from(kept).toString("utf8"));
    const seed = randomInt(SEED_LIMIT);
    await this.#commit([{ insert: { space: SPACE.seeds, key, value: bytes(String(seed)) } }]);
    return seed;
  }

  /**
   * A plan's answer, with the plan and what comes of it: durable before it is given.
   * @throws JournalFault "Exists" when this round and attempt has one already
   */
  async begin(
    assignment: Assignment,
    planBytes: Uint8Array,
    highestRound: number,
    more: readonly Write[] = [],
  ): Promise<void> {
    await this.#commit([...this.beginWrites(assignment, planBytes, highestRound), ...more]);
    await this.#forget(assignment.federation);
  }

  /** As begin(), to be committed with something else. */
  beginWrites(assignment: Assignment, planBytes: Uint8Array, highestRound: number): Write[] {
    const key = assignmentKey(assignment);
    const round = Math.max(assignment.round, highestRound);
    return [
      { insert: { space: SPACE.assignments, key, value: encode(assignment) } },
      { put: { space: SPACE.plans, key, value: planBytes } },
      { put: { space: SPACE.rounds, key: assignment.federation, value: bytes(String(round)) } },
    ];
  }

  /** @param more  committed with it */
  async save(assignment: Assignment, more: readonly Write[] = []): Promise<void> {
    await this.#commit([
      { put: { space: SPACE.assignments, key: assignmentKey(assignment), value: encode(assignment) } },
      ...more,
    ]);
  }

  async assignment(work: { federation: string; round: number; attempt: number }): Promise<Assignment | undefined> {
    const value = await this.#journal.get(SPACE.assignments, assignmentKey(work));
    return value && decode(value);
  }

  async assignments(): Promise<Assignment[]> {
    return (await this.#journal.entries(SPACE.assignments)).map(({ value }) => decode(value));
  }

  async plan(work: { federation: string; round: number; attempt: number }): Promise<Plan | undefined> {
    const value = await this.#journal.get(SPACE.plans, assignmentKey(work));
    return value && readPlan(JSON.parse(Buffer.from(value).toString("utf8")));
  }

  async #commit(writes: Write[]): Promise<void> {
    try {
      await this.#journal.commit(writes);
    } catch (error) {
      const isPassing = error instanceof JournalFault && (error.code === "Exists" || error.code === "DiskFull");
      if (!isPassing) this.#broken = error instanceof Error ? error.message : String(error);
      throw error;
    }
  }

  async #forget(federation: string): Promise<void> {
    const all = await this.#journal.entries(SPACE.assignments, `${federation}#`);
    const old = all.slice(0, Math.max(0, all.length - KEPT_ASSIGNMENTS)).filter(({ value }) => {
      const assignment = decode(value);
      return hasEnded(assignment) && assignment.told && assignment.cleaned;
    });
    if (old.length === 0) return;
    await this.#commit(
      old.flatMap(({ key, value }): Write[] => {
        const assignment = decode(value);
        return [
          { remove: { space: SPACE.assignments, key } },
          { remove: { space: SPACE.plans, key } },
          { remove: { space: SPACE.seeds, key: `${federation}#${assignment.round}` } },
          ...this.sessions.forget(assignment),
        ];
      }),
    );
  }
}

/** What version 2 had means the same in version 3, and work on it may be open while the agent is replaced by a newer one. */
function readPlan(json: { schema?: unknown }): Plan {
  return planSchema.parse(json.schema === 2 ? { ...json, schema: 3 } : json);
}

function encode(assignment: Assignment): Uint8Array {
  return bytes(JSON.stringify(assignment));
}

function decode(value: Uint8Array): Assignment {
  return assignmentSchema.parse(JSON.parse(Buffer.from(value).toString("utf8")));
}

function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}
