/**
 * This agent's part in draws of cohorts (secure-aggregation.md §6 "Who decides cohorts"): a nonce that exists before its commitment is said, and
 * what was shown before the nonce was given away.
 * Holds: one nonce per draw (federation, round, number), whatever is asked; what was shown is written once.
 */
import { z } from "zod";
import type { Write } from "../../journal/journal.ts";
import { parsed, put, remove, type Store } from "../store.ts";

const SPACE = "draws";

const rowSchema = z.strictObject({
  federation: z.string(),
  round: z.int().min(1),
  number: z.int().min(1),
  /** As the operator opened it. */
  members: z.array(z.string()),
  cohortSize: z.int().min(1),
  /** Base64, as in a plan. */
  nonce: z.string(),
  commitment: z.string(),
  signature: z.string(),
  /** Whose commitments were shown when this agent gave its nonce: a plan with others was made after the nonce was known. */
  shown: z.array(z.strictObject({ participant: z.string(), commitment: z.string() })).optional(),
});
export type DrawRow = z.infer<typeof rowSchema>;
type DrawOf = Pick<DrawRow, "federation" | "round" | "number">;

export class DrawLedger {
  readonly #store: Store;

  constructor(store: Store) {
    this.#store = store;
  }

  async of(draw: DrawOf): Promise<DrawRow | undefined> {
    const value = await this.#store.get(SPACE, keyOf(draw));
    return value && rowSchema.parse(parsed(value));
  }

  async save(row: DrawRow): Promise<void> {
    await this.#store.commit([put(SPACE, keyOf(row), row)]);
  }

  /** All of the federation's rounds before this one, whose own draw a later attempt's plan is held against again. */
  async forget(of: { federation: string; round: number }): Promise<Write[]> {
    const entries = await this.#store.entries(SPACE, `${of.federation}#`);
    const old = entries.filter(({ value }) => rowSchema.parse(parsed(value)).round < of.round);
    return old.map(({ key }) => remove(SPACE, key));
  }
}

function keyOf({ federation, round, number }: DrawOf): string {
  return `${federation}#${String(round).padStart(16, "0")}#${number}`;
}
