/**
 * This agent's part in draws of cohorts: commits to a nonce when the operator opens a draw, and gives it when its own commitment is among
 * those of all (secure-aggregation.md §6 "Who decides cohorts").
 * Holds: the nonce is on disk before its commitment leaves, and what was shown before the nonce leaves; the same question again gets the same
 * answer, another one none; at most three draws per round; none in a federation, or for a round, in which this agent would refuse the plan.
 */
import { randomBytes } from "node:crypto";
import type { Logger } from "pino";
import { planSchema } from "../../round/plan.ts";
import { commitmentBytes, commitmentToNonce, MOST_DRAWS, NONCE_BYTES } from "../../secagg/draw.ts";
import type { DrawCommitments, DrawOpening, DrawStep } from "../../transport/generated/rondo.v1.ts";
import type { SitePolicy } from "../config.ts";
import type { Ledger } from "../ledger.ts";
import type { NamedDraw, OperatorLink } from "../link.ts";
import { matchesAny } from "../patterns.ts";
import type { SiteEvents } from "../site-events.ts";
import type { DrawRow } from "./draw-ledger.ts";

const SMALLEST_COHORT = 3;
const MOST_MEMBERS = 256;
/** As in a plan's roster. */
const PARTICIPANT_NAME = /^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$/;
const COMMITMENT_BYTES = 32;
const SIGNATURE_BYTES = 64;

export interface DrawsDeps {
  ledger: Pick<Ledger, "draws" | "sessions" | "seen">;
  link: Pick<OperatorLink, "commit" | "reveal">;
  participant: string;
  policy: SitePolicy;
  sign(bytes: Uint8Array): Uint8Array;
  events: SiteEvents;
  log: Logger;
}

/** Why nothing is answered. */
class Declined extends Error {}

export class Draws {
  readonly #deps: DrawsDeps;

  constructor(deps: DrawsDeps) {
    this.#deps = deps;
  }

  /** @param step  unsigned and unchecked, but that its work names this participant */
  async on({ work, step }: DrawStep): Promise<void> {
    if (!work || !step) return;
    const { participant, events, log } = this.#deps;
    const draw: NamedDraw = { federation: work.federation, round: work.round, number: work.attempt, participant };
    // Unlike a plan's names, nobody has looked at this one yet, and it would stand in a row, in log lines and in an Event.
    if (!planSchema.shape.federation.safeParse(draw.federation).success)
      return log.warn("draw of no federation dropped");
    try {
      await this.#judge(draw);
      if (step.$case === "opening") await this.#opened(draw, step.value);
      else await this.#shown(draw, step.value);
    } catch (error) {
      if (!(error instanceof Declined)) throw error;
      log.warn(
        { federation: draw.federation, round: draw.round, draw: draw.number, why: error.message },
        "draw declined",
      );
      events.warn(
        undefined,
        "DrawDeclined",
        `The draw of cohorts ${draw.number} for round ${draw.round} of ${draw.federation} was not answered: ${error.message}`,
      );
    }
  }

  async #judge(draw: NamedDraw): Promise<void> {
    const { ledger, policy } = this.#deps;
    if (!matchesAny(policy.federations, draw.federation)) throw new Declined("policy does not allow this federation");
    if (!policy.privacy.includes("secure")) throw new Declined("policy does not allow secure rounds");
    if (draw.number > MOST_DRAWS) throw new Declined(`a round has at most ${MOST_DRAWS} draws`);
    const { highestRound } = await ledger.seen({ ...draw, attempt: 1 });
    const highest = Math.max(highestRound, await ledger.sessions.forgotten(draw.federation));
    if (draw.round <= highest) throw new Declined(`the round is not above ${highest}, the highest this agent has seen`);
  }

  async #opened(draw: NamedDraw, { members, cohortSize }: DrawOpening): Promise<void> {
    const kept = await this.#deps.ledger.draws.of(draw);
    if (kept && (kept.cohortSize !== cohortSize || !isSame(kept.members, members))) {
      throw new Declined("it was opened before with other members or another cohort size");
    }
    const row = kept ?? (await this.#begin(draw, members, cohortSize));
    this.#say("commit", this.#deps.link.commit(draw, raw(row.commitment), raw(row.signature)));
  }

  async #begin(draw: NamedDraw, members: string[], cohortSize: number): Promise<DrawRow> {
    const isFit =
      members.length <= MOST_MEMBERS &&
      cohortSize >= SMALLEST_COHORT &&
      isAscending(members) &&
      members.every((name) => PARTICIPANT_NAME.test(name)) &&
      members.includes(draw.participant);
    if (!isFit) throw new Declined("its members or cohort size are not those of a draw that this participant is in");
    const nonce = randomBytes(NONCE_BYTES);
    const commitment = commitmentToNonce(nonce);
    const { federation, round, number } = draw;
    const row: DrawRow = {
      ...{ federation, round, number, members, cohortSize },
      nonce: text(nonce),
      commitment: text(commitment),
      signature: text(this.#deps.sign(commitmentBytes(draw, commitment))),
    };
    await this.#deps.ledger.draws.save(row);
    return row;
  }

  async #shown(draw: NamedDraw, { commitments }: DrawCommitments): Promise<void> {
    const row = await this.#deps.ledger.draws.of(draw);
    if (!row) throw new Declined("this agent has not committed in it");
    const names = commitments.map(({ participant }) => participant);
    const isFit =
      isAscending(names) &&
      names.every((name) => row.members.includes(name)) &&
      commitments.every((c) => c.commitment.length === COMMITMENT_BYTES && c.signature.length === SIGNATURE_BYTES);
    if (!isFit) throw new Declined("the commitments are not of its members, each once");
    const own = commitments.find(({ participant }) => participant === draw.participant);
    if (!own || text(own.commitment) !== row.commitment || text(own.signature) !== row.signature) {
      throw new Declined("this agent's own commitment is not among those of all");
    }
    const shown = commitments.map(({ participant, commitment }) => ({ participant, commitment: text(commitment) }));
    if (row.shown && JSON.stringify(row.shown) !== JSON.stringify(shown)) {
      throw new Declined("other commitments were shown before this agent gave its nonce");
    }
    if (!row.shown) await this.#deps.ledger.draws.save({ ...row, shown });
    this.#say("reveal", this.#deps.link.reveal(draw, raw(row.nonce)));
  }

  /** In passing: what comes next does not wait for the acknowledgement, and the operator asks again what it has not got. */
  #say(what: string, saying: Promise<void>): void {
    saying.catch((error: unknown) => this.#deps.log.debug({ err: error, what }, "part in a draw not acknowledged"));
  }
}

function isAscending(names: readonly string[]): boolean {
  return names.every((name, i) => i === 0 || Buffer.compare(Buffer.from(names[i - 1]!), Buffer.from(name)) < 0);
}

function isSame(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((name, index) => name === b[index]);
}

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("base64");
const raw = (base64: string): Uint8Array => Buffer.from(base64, "base64");
