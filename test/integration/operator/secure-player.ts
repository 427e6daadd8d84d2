/**
 * A site that takes part in secure rounds: the real participant of operator/secagg over the real client. What it "trains" is a delta that
 * the test names; where it falls silent, aborts or lies, the test says too.
 */
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { encode } from "../../../operator/controllers/round/testing/secure-session.ts";
import { leavesOfFile, merkleRoot } from "../../../operator/journal/merkle.ts";
import type { Plan } from "../../../operator/round/plan.ts";
import { simdKernel } from "../../../operator/secagg/kernels/simd.ts";
import { applyMasks, type MaskKey } from "../../../operator/secagg/masks.ts";
import type { ParticipantMessage } from "../../../operator/secagg/messages.ts";
import { advertise } from "../../../operator/secagg/participant/advertise.ts";
import type { ParticipantDeps } from "../../../operator/secagg/participant/deps.ts";
import { masked } from "../../../operator/secagg/participant/masked-input.ts";
import { receive } from "../../../operator/secagg/participant/session.ts";
import type { Masked, ParticipantState } from "../../../operator/secagg/participant/state.ts";
import { sessionTerms } from "../../../operator/secagg/terms.ts";
import { vectorLayout } from "../../../operator/secagg/vector.ts";
import type { AgentReport } from "../../../operator/transport/coordinator.ts";
import { TransportFault } from "../../../operator/transport/faults.ts";
import type { Manifest, ProtocolStep } from "../../../operator/transport/generated/rondo.v1.ts";
import type { Assignment, Behaviour, Player } from "./player.ts";

/** What a site is asked, in order; the upload is the answer to "shares". */
export type Question = "plan" | "keys" | "shares" | "consistency" | "unmask";

export interface Site {
  weight?: number;
  /** Trains until then. */
  until?: Promise<unknown>;
  /** Hears this question and says nothing any more. */
  silentAt?: Question;
  /** Hears this question and ends its session. */
  abortsAt?: Question;
  /** When that was acknowledged. */
  left?: () => Promise<unknown> | undefined;
  /** Whom it accuses then. */
  accuses?: string[];
  /** Before each answer. */
  before?: (question: Question) => Promise<unknown> | undefined;
  /** After the answer was acknowledged. */
  after?: (message: ParticipantMessage) => Promise<unknown> | undefined;
  /** While it uploads: bytes that the operator has. */
  onProgress?: (bytes: number) => void;
  /** What it says instead. */
  lies?: (message: ParticipantMessage, state: ParticipantState) => ParticipantMessage;
  /** What it goes on from instead. */
  changes?: (state: ParticipantState, question: Question) => ParticipantState;
  /** What it uploads instead. */
  forges?: (manifest: Manifest, file: string) => Promise<Manifest>;
}

const kernel = simdKernel();

/**
 * Accepts, "trains", and takes part in every secure step. In a later attempt of a round what was trained is offered again.
 * @param site  in every attempt, or in each its own, by its plan
 */
export function trainsSecurely(value: number, site: Site | ((plan: Plan) => Site) = {}): Behaviour {
  return async (player, assignment) => {
    const { plan } = assignment;
    const now = typeof site === "function" ? site(plan) : site;
    await player.accept(assignment);
    if (plan.attempt === 1) {
      await player.parent(assignment);
      await player.status(assignment, "Training", { step: 1 });
    }
    await now.until;
    await player.status(assignment, "Trained", { step: plan.training.steps });
    await new Session(player, assignment, { value, ...now }).run().catch(unlessAttemptEnded);
  };
}

/** What an agent does then: nothing, until the next plan comes. */
function unlessAttemptEnded(error: unknown): void {
  if (!(error instanceof TransportFault) || error.code !== "AttemptEnded") throw error;
}

class Session {
  readonly #player: Player;
  readonly #assignment: Assignment;
  readonly #site: Site & { value: number };
  readonly #deps: ParticipantDeps;
  #state!: ParticipantState;
  /** One after the other, as an agent with one ledger works. */
  #last: Promise<void> = Promise.resolve();

  constructor(player: Player, assignment: Assignment, site: Site & { value: number }) {
    this.#player = player;
    this.#assignment = assignment;
    this.#site = site;
    const { plan, planHash } = assignment;
    const keys = new Map(plan.roster.map((entry) => [entry.participant, Buffer.from(entry.identity, "base64")]));
    const cohort = plan.secure!.cohorts.findIndex(({ members }) => members.includes(player.name));
    this.#deps = {
      terms: sessionTerms(plan, planHash, cohort, (name) => new Uint8Array(keys.get(name)!)),
      own: plan.secure!.cohorts[cohort]!.members.indexOf(player.name) + 1,
      sign: (bytes) => player.sign(bytes),
      random: (length) => new Uint8Array(randomBytes(length)),
    };
  }

  async run(): Promise<void> {
    if (await this.#leavesAt("plan")) return;
    const { next, message } = advertise(this.#deps);
    this.#state = this.#site.changes?.(next, "plan") ?? next;
    this.#listen();
    await this.#say(message);
  }

  #listen(): void {
    const { federation, round, attempt } = this.#assignment.plan;
    const before = this.#player.onStep;
    this.#player.onStep = (step) => {
      before(step);
      const { work } = step;
      if (work?.federation !== federation || work.round !== round || work.attempt !== attempt) return;
      this.#last = this.#last
        .then(() => this.#answer(step))
        .catch(unlessAttemptEnded)
        .catch((error: unknown) => {
          this.#player.errors.push(error);
        });
    };
  }

  async #answer({ step }: ProtocolStep): Promise<void> {
    if (!step || this.#state.kind === "Aborted" || (await this.#leavesAt(step.$case))) return;
    const asked = this.#site.changes?.(this.#state, step.$case) ?? this.#state;
    const outcome = receive(this.#deps, asked, step);
    switch (outcome.kind) {
      case "send":
        this.#state = outcome.next;
        return this.#say(outcome.message);
      case "repeat":
        return this.#say(outcome.message);
      case "mask": {
        if (asked.kind !== "Shared") throw new Error(`masks in state ${asked.kind}`);
        const vector = await this.#mask(outcome.opened.keys);
        this.#state = masked(this.#deps, asked, outcome.opened, vector);
        return this.#upload(this.#state);
      }
      case "upload":
        return this.#upload(this.#state as Masked);
      case "abort":
        this.#state = outcome.next;
        return this.#player.fail(this.#assignment, outcome.next.code, outcome.next.message, outcome.next.accused);
      case "refuse":
      case "nothing":
        return;
    }
  }

  async #leavesAt(question: Question): Promise<boolean> {
    await this.#site.before?.(question);
    if (this.#site.silentAt === question) return true;
    if (this.#site.abortsAt !== question) return false;
    const accused = this.#site.accuses ?? [];
    const code = accused.length > 0 ? "BadShare" : "RosterDiffers";
    await this.#player.fail(this.#assignment, code, `it left when asked for ${question}`, accused);
    this.#site.silentAt = question;
    await this.#site.left?.();
    return true;
  }

  async #mask(keys: readonly MaskKey[]): Promise<{ root: Uint8Array; byteLength: number }> {
    const { plan } = this.#assignment;
    const { value, weight = 255 } = this.#site;
    const vector = encode(vectorLayout(plan), { weight, valueAt: () => value });
    applyMasks(vector, plan.secure!.ring, keys, { from: 0, to: vector.length }, kernel);
    await writeFile(this.#file(), vector);
    return { root: merkleRoot((await leavesOfFile(this.#file())).leaves), byteLength: vector.length };
  }

  async #upload({ input }: Masked): Promise<void> {
    const { plan, planHash } = this.#assignment;
    const { leaves, byteLength } = await leavesOfFile(this.#file());
    const work = this.#player.work(plan, "upload");
    const honest = { work, planHash, byteLength, leaves, inputSignature: input.signature };
    const manifest = (await this.#site.forges?.(honest, this.#file())) ?? honest;
    await this.#player.upload(manifest, this.#file(), this.#site.onProgress);
  }

  async #say(message: ParticipantMessage): Promise<void> {
    const said = this.#site.lies?.(message, this.#state) ?? message;
    const { plan, planHash } = this.#assignment;
    const work = this.#player.work(plan, said.$case);
    const body = said.$case === "advertise" ? { work, planHash, advertisement: said.value } : { work, ...said.value };
    await this.#player.send({ kind: said.$case, body } as AgentReport);
    await this.#site.after?.(message);
  }

  #file(): string {
    const { roundName, attempt } = this.#assignment.plan;
    return this.#player.file(`${roundName}-${attempt}-masked`);
  }
}
