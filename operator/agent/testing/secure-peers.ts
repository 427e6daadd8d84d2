/**
 * The rest of a cohort, and the operator between it and one agent under test: an honest coordinator (secagg/coordinator) with honest members,
 * whose vectors exist by their roots alone. What the agent says is kept as it came.
 */
import { randomBytes, sign } from "node:crypto";
import { leavesOfFile, merkleRoot } from "../../journal/merkle.ts";
import type { Plan } from "../../round/plan.ts";
import {
  answered,
  type CohortState,
  closeStep,
  openCohort,
  receive as receiveAtCoordinator,
  receiveInput,
  requestFor,
} from "../../secagg/coordinator/cohort.ts";
import type { CoordinatorMessage, ParticipantMessage, SessionTerms } from "../../secagg/messages.ts";
import { advertise } from "../../secagg/participant/advertise.ts";
import type { ParticipantDeps } from "../../secagg/participant/deps.ts";
import { masked } from "../../secagg/participant/masked-input.ts";
import { receive } from "../../secagg/participant/session.ts";
import type { ParticipantState, Shared } from "../../secagg/participant/state.ts";
import { sessionTerms } from "../../secagg/terms.ts";
import type { Upload } from "../link.ts";
import { planBytes } from "./plan.ts";
import type { TestMember } from "./secure-plan.ts";

interface Peer {
  index: number;
  deps: ParticipantDeps;
  state: ParticipantState;
}

export class SecurePeers {
  readonly terms: SessionTerms;
  /** Every message of the agent under test, in the order in which it came; repeats again. */
  readonly messages: ParticipantMessage[] = [];
  /** Roots of its uploads. */
  readonly roots: string[] = [];
  readonly #peers: Peer[];
  readonly #own: number;
  #state: CohortState = openCohort();
  /** Called with what the coordinator asks of the agent under test. */
  ask: (message: CoordinatorMessage) => void = () => {};
  /** A lie: what is asked instead. */
  instead: (message: CoordinatorMessage) => CoordinatorMessage = (message) => message;

  /** @param participant  the agent under test */
  constructor(plan: Plan, members: readonly TestMember[], participant: string) {
    const keys = new Map(members.map((member) => [member.participant, Buffer.from(member.identity, "base64")]));
    this.terms = sessionTerms(plan, planBytes(plan).hash, 0, (name) => keys.get(name)!);
    const names = plan.secure!.cohorts[0]!.members;
    this.#own = names.indexOf(participant) + 1;
    this.#peers = members
      .filter((member) => member.participant !== participant)
      .map((member) => {
        const own = names.indexOf(member.participant) + 1;
        const deps: ParticipantDeps = {
          terms: this.terms,
          own,
          sign: (bytes) => new Uint8Array(sign(null, bytes, member.privateKey)),
          random: (length) => randomBytes(length),
        };
        const { next, message } = advertise(deps);
        this.#take(own, message);
        return { index: own, deps, state: next };
      });
  }

  get step(): CohortState["step"] {
    return this.#state.step;
  }

  say(message: ParticipantMessage): void {
    this.messages.push(message);
    this.#take(this.#own, message);
    this.#goOn();
  }

  async upload({ file, input }: Upload): Promise<void> {
    const { leaves, byteLength } = await leavesOfFile(file);
    const root = merkleRoot(leaves);
    this.roots.push(Buffer.from(root).toString("hex"));
    this.#state = receiveInput(this.terms, this.#state, {
      index: this.#own,
      root,
      byteLength,
      signature: input!.signature,
    });
    this.#goOn();
  }

  /** As at a new connection. */
  announce(): void {
    const request = requestFor(this.terms, this.#state, this.#own);
    if (request) this.ask(this.instead(request));
  }

  #take(index: number, message: ParticipantMessage): void {
    this.#state = receiveAtCoordinator(this.terms, this.#state, index, message);
  }

  /** The others answer at once, and a step ends when all have answered. */
  #goOn(): void {
    while (this.#state.step !== "complete") {
      for (const peer of this.#peers) this.#answer(peer);
      if (!answered(this.#state).includes(this.#own)) return;
      this.#state = closeStep(this.terms, this.#state);
      this.announce();
    }
  }

  #answer(peer: Peer): void {
    const request = requestFor(this.terms, this.#state, peer.index);
    if (!request) return;
    const outcome = receive(peer.deps, peer.state, request);
    if (outcome.kind === "send") {
      peer.state = outcome.next;
      this.#take(peer.index, outcome.message);
    } else if (outcome.kind === "mask") {
      const { byteLength } = this.terms;
      const next = masked(peer.deps, peer.state as Shared, outcome.opened, { root: randomBytes(32), byteLength });
      peer.state = next;
      this.#state = receiveInput(this.terms, this.#state, { index: peer.index, ...next.input });
    } else throw new Error(`a peer answered ${request.$case} with ${outcome.kind}`);
  }
}
