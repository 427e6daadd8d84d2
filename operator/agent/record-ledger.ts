/**
 * What rounds have spent of the privacy of this site's records (DP-SGD), and what open ones have set aside for it.
 * Holds: an entry is on disk before the trainer can start, and counts from then on, for every federation: the records are the same;
 *   it goes only with the commit that ends a round of which no adapter has left the trainer.
 * Does not: add up epsilon or refuse; the trainer does, which has the accountant (docs/trainer.md, recordPrivacy).
 */
import { z } from "zod";
import type { Write } from "../journal/journal.ts";
import type { Plan } from "../round/plan.ts";
import { parsed, put, remove, type Store } from "./store.ts";

const SPACE = "record-privacy";

const spentSchema = z.strictObject({ noiseMultiplier: z.string(), sampleRate: z.string(), steps: z.int().min(1) });
export type Spent = z.infer<typeof spentSchema>;

/** What names the training of a round: a later attempt that takes its trainer over spends nothing more. */
export interface TrainingOf {
  federation: string;
  round: number;
  began: number;
}

export class RecordLedger {
  readonly #store: Store;

  constructor(store: Store) {
    this.#store = store;
  }

  /** All but this one's; those of the same settings as one, which costs the accountant less and says the same. */
  async spentBeside(of: TrainingOf): Promise<Spent[]> {
    const merged = new Map<string, Spent>();
    for (const { key, value } of await this.#store.entries(SPACE)) {
      if (key === keyOf(of)) continue;
      const spent = spentSchema.parse(parsed(value));
      const settings = `${spent.noiseMultiplier} ${spent.sampleRate}`;
      merged.set(settings, { ...spent, steps: spent.steps + (merged.get(settings)?.steps ?? 0) });
    }
    return [...merged.values()];
  }

  /** Nothing for a plan without record-level privacy. */
  async reserve(of: TrainingOf, { training }: Plan): Promise<void> {
    const { recordPrivacy, steps } = training;
    if (!recordPrivacy || steps === undefined) return;
    const { noiseMultiplier, sampleRate } = recordPrivacy;
    const spent: Spent = { noiseMultiplier, sampleRate, steps };
    await this.#store.commit([put(SPACE, keyOf(of), spent)]);
  }

  /** For the commit of an end before the trainer has handed anything back. */
  release(of: TrainingOf): Write[] {
    return [remove(SPACE, keyOf(of))];
  }
}

function keyOf({ federation, round, began }: TrainingOf): string {
  return `${federation}#${round}#${began}`;
}
