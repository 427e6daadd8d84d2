/**
 * What the contributors' training losses come to together: Σ loss × tokens / Σ tokens.
 * Holds: nothing is said of fewer than three, because two of them could tell each other's; a contribution that names none, or none that can
 *   be one, is left out of the mean and stays in the sum.
 */
import type { RoundMetrics } from "../../round/record.ts";

/** secure-aggregation.md §4: the smallest cohort that hides its members. */
export const LEAST_CONTRIBUTORS = 3;

/** Of what a trusted contribution carries beside its values: decimal strings (protocol.md). */
export class SummedLosses {
  #contributors = 0;
  #tokens = 0;
  #lossTokens = 0;

  add(metadata: ReadonlyMap<string, string>): void {
    const [tokens, lossTokens] = [decimal(metadata.get("tokens")), decimal(metadata.get("lossTokens"))];
    if (tokens === undefined || lossTokens === undefined || !Number.isSafeInteger(tokens) || tokens < 1) return;
    this.#contributors++;
    this.#tokens += tokens;
    this.#lossTokens += lossTokens;
  }

  mean(): RoundMetrics | undefined {
    return meanLoss({ contributors: this.#contributors, tokens: this.#tokens, lossTokens: this.#lossTokens });
  }
}

/** @returns undefined where there is nothing to say, or too few to say it of */
export function meanLoss(of: { contributors: number; tokens: number; lossTokens: number }): RoundMetrics | undefined {
  const trainLoss = of.lossTokens / of.tokens;
  const isSaid = of.contributors >= LEAST_CONTRIBUTORS && Number.isSafeInteger(of.tokens) && Number.isFinite(trainLoss);
  return isSaid ? { trainLoss, tokens: of.tokens } : undefined;
}

function decimal(text: string | undefined): number | undefined {
  return text !== undefined && /^[0-9]{1,15}(\.[0-9]{1,12})?$/.test(text) ? Number(text) : undefined;
}
