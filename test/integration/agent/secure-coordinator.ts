/**
 * The operator's part in one secure round, over the real transport of a TestOperator: the coordinator of secagg/coordinator, an upload's bytes
 * summed in the ring. A test may close steps early, leave members unanswered, or put lies in the place of what is asked.
 * It stands for controllers/, which other tests run.
 */
import { readFile } from "node:fs/promises";
import { merkleRoot } from "../../../operator/journal/merkle.ts";
import type { Plan } from "../../../operator/round/plan.ts";
import {
  answered,
  asked,
  type CohortState,
  closeStep,
  openCohort,
  receive,
  receiveInput,
  requestFor,
} from "../../../operator/secagg/coordinator/cohort.ts";
import { recover } from "../../../operator/secagg/coordinator/recover.ts";
import { SecaggFault } from "../../../operator/secagg/faults.ts";
import { scalarKernel } from "../../../operator/secagg/kernels/scalar.ts";
import { addToSum, applyMasks } from "../../../operator/secagg/masks.ts";
import type { CoordinatorMessage, ParticipantMessage, SessionTerms } from "../../../operator/secagg/messages.ts";
import { fromRing, meanOf } from "../../../operator/secagg/ring.ts";
import { sessionTerms } from "../../../operator/secagg/terms.ts";
import { decodeTail, RING_BYTES, vectorLayout } from "../../../operator/secagg/vector.ts";
import type { AgentReport } from "../../../operator/transport/coordinator.ts";
import { TransportFault } from "../../../operator/transport/faults.ts";
import type { Manifest } from "../../../operator/transport/generated/rondo.v1.ts";
import type { TestOperator } from "../transport/operator.ts";

type Lie = (honest: CoordinatorMessage, round: SecureCoordinator) => CoordinatorMessage;

export class SecureCoordinator {
  readonly plan: Plan;
  readonly terms: SessionTerms;
  readonly #operator: TestOperator;
  readonly #names: readonly string[];
  readonly #files = new Map<string, string>();
  /** What was last asked of each, as it was sent. */
  readonly sent = new Map<string, CoordinatorMessage[]>();
  state: CohortState = openCohort();
  /** What was said of an attempt before this one, and so answered. */
  readonly ended: string[] = [];
  /** A step is closed when everybody but these has answered. */
  readonly silent = new Set<string>();
  /** By participant and step. */
  readonly lies = new Map<string, Lie>();
  /** The step that is not closed by itself. */
  holds: CohortState["step"] | undefined;

  constructor(operator: TestOperator, plan: Plan, planHash: Uint8Array) {
    this.#operator = operator;
    this.plan = plan;
    this.#names = plan.secure!.cohorts[0]!.members;
    const keys = new Map(plan.roster.map((member) => [member.participant, Buffer.from(member.identity, "base64")]));
    this.terms = sessionTerms(plan, planHash, 0, (name) => keys.get(name)!);
    const { coordinator } = operator;
    coordinator.receive = async (participant, report) => this.#received(participant, report);
    coordinator.uploaded = async (participant, manifest, file) => this.#uploaded(participant, manifest, file);
    coordinator.attended = (session) => this.announce(session.participant);
  }

  index(participant: string): number {
    return this.#names.indexOf(participant) + 1;
  }

  /** Of everybody that the step waits for. */
  announce(participant: string): void {
    if (!this.#names.includes(participant)) return;
    const request = requestFor(this.terms, this.state, this.index(participant));
    if (request) this.ask(participant, this.lies.get(`${participant} ${request.$case}`)?.(request, this) ?? request);
  }

  /** Whatever it is. */
  ask(participant: string, message: CoordinatorMessage): void {
    const { federation, round, attempt, purpose } = this.plan;
    const work = { federation, round, attempt, purpose, participant, step: "step" };
    this.sent.set(participant, [...(this.sent.get(participant) ?? []), message]);
    this.#operator.server.session(participant)?.sendStep({ work, step: message as never });
  }

  /** Ends the current step with whoever has answered. */
  close(): void {
    this.state = closeStep(this.terms, this.state);
    for (const name of this.#names) this.announce(name);
    this.#goOn();
  }

  /** The sum of U3, opened: what an operator learns. */
  async sum() {
    const layout = vectorLayout(this.plan);
    const { ring } = layout;
    const kernel = scalarKernel();
    const sum = new Uint8Array(layout.byteLength);
    if (!("u3" in this.state)) throw new Error(`no sum in step ${this.state.step}`);
    const contributors = this.state.u3.map(({ index }) => this.#names[index - 1]!);
    for (const name of contributors) addToSum(sum, ring, 0, await readFile(this.#files.get(name)!), kernel);
    const { keys, liars } = recover(this.terms, this.state);
    applyMasks(sum, ring, keys, { from: 0, to: sum.length }, kernel);
    const tail = decodeTail(layout, sum.subarray(layout.weightAt * RING_BYTES[ring]));
    const elements = new Uint32Array(sum.buffer);
    const means = layout.tensors.map(({ at, scale }) => meanOf(fromRing(ring, elements[at]!), scale, tail.weight));
    return { contributors, liars, tail, means };
  }

  #received(participant: string, report: AgentReport): void {
    const message = messageOf(report);
    if (message || report.kind === "accept" || report.kind === "refuse")
      this.#requireAttempt(report.kind, report.body.work);
    if (!message) return;
    this.#take(() => receive(this.terms, this.state, this.index(participant), message));
  }

  /** As the operator answers what is said of an attempt that is over. */
  #requireAttempt(kind: string, work: { attempt: number; participant: string } | undefined): void {
    if (!work || work.attempt >= this.plan.attempt) return;
    this.ended.push(`${work.participant} ${kind}`);
    throw new TransportFault("AttemptEnded", "another attempt of the round runs");
  }

  #uploaded(participant: string, manifest: Manifest, file: string): void {
    this.#requireAttempt("upload", manifest.work);
    this.#files.set(participant, file);
    this.#take(() =>
      receiveInput(this.terms, this.state, {
        index: this.index(participant),
        root: merkleRoot(manifest.leaves),
        byteLength: manifest.byteLength,
        signature: manifest.inputSignature,
      }),
    );
  }

  #take(take: () => CohortState): void {
    try {
      this.state = take();
    } catch (error) {
      if (!(error instanceof SecaggFault)) throw error;
      throw new TransportFault("NotExpected", error.message);
    }
    // After the acknowledgement, as the operator's own loop does.
    setImmediate(() => this.#goOn());
  }

  #goOn(): void {
    if (this.state.step === "complete" || this.state.step === this.holds) return;
    const waited = asked(this.terms, this.state).filter((index) => !this.silent.has(this.#names[index - 1]!));
    const have = new Set(answered(this.state));
    if (waited.length >= this.terms.threshold && waited.every((index) => have.has(index))) this.close();
  }
}

function messageOf(report: AgentReport): ParticipantMessage | undefined {
  switch (report.kind) {
    case "advertise":
      return { $case: "advertise", value: report.body.advertisement! };
    case "share":
      return { $case: "share", value: report.body };
    case "consistency":
      return { $case: "consistency", value: report.body };
    case "unmask":
      return { $case: "unmask", value: report.body };
    default:
      return undefined;
  }
}
