/**
 * A cohort of real participants and an honest coordinator between them, for the tests of the participant's side: a test takes what the
 * coordinator would send, changes one thing in it, and shows it to the victim.
 */
import { sha256, utf8 } from "../../bytes.ts";
import type {
  Advertisement,
  CoordinatorMessage,
  EncryptedShares,
  IndexedSignature,
  SessionTerms,
  SignedInput,
} from "../../messages.ts";
import { testCohort } from "../../testing/cohort.ts";
import { advertise } from "../advertise.ts";
import type { ParticipantDeps } from "../deps.ts";
import { masked } from "../masked-input.ts";
import { receive } from "../session.ts";
import type { ParticipantState } from "../state.ts";

interface Player {
  deps: ParticipantDeps;
  state: ParticipantState;
}

export interface CohortOptions {
  size: number;
  /** Another one stands for another parent adapter or plan: C0 differs. */
  context?: string;
  /** Of whom this cohort's randomness is: the same seed draws the same secrets. */
  seed?: string;
}

const madeOf = ({ size, context, seed }: CohortOptions) =>
  testCohort(size, { ...(context ? { adapter: sha256(utf8(context)) } : {}), ...(seed ? { seed } : {}) });

export const termsOf = (options: CohortOptions): SessionTerms => madeOf(options).terms;

export class Cohort {
  readonly terms: SessionTerms;
  readonly players: Player[];
  u1: number[] = [];
  u2: number[] = [];
  u3: number[] = [];

  /** Everybody has advertised. */
  constructor(options: CohortOptions) {
    const { terms, deps: depsOf } = madeOf(options);
    this.terms = terms;
    this.players = upTo(options.size).map((own) => {
      const deps = depsOf(own);
      return { deps, state: advertise(deps).next };
    });
  }

  /** To Shared, Masked, Signed, Released: who of them is still there each time; everybody unless it is said. */
  share(u1: number[] = this.#all): this {
    this.u1 = u1;
    return this.#step(u1, () => this.keys());
  }

  mask(u2: number[] = this.u1): this {
    this.u2 = u2;
    return this.#step(u2, (index) => this.shares(index));
  }

  sign(u3: number[] = this.u2): this {
    this.u3 = u3;
    return this.#step(u3, () => this.consistency());
  }

  release(who: number[] = this.u3): this {
    return this.#step(who, () => this.unmask());
  }

  keys(): CoordinatorMessage & { $case: "keys" } {
    return { $case: "keys", value: { advertised: this.u1.map((index) => this.advertisement(index)) } };
  }

  shares(to: number): CoordinatorMessage & { $case: "shares" } {
    const shares = this.u2.filter((from) => from !== to).map((from) => this.ciphertext(from, to));
    return { $case: "shares", value: { acks: this.u2.map((index) => this.ack(index)), shares } };
  }

  consistency(): CoordinatorMessage & { $case: "consistency" } {
    return { $case: "consistency", value: { u2: [...this.u2], inputs: this.u3.map((index) => this.input(index)) } };
  }

  unmask(): CoordinatorMessage & { $case: "unmask" } {
    return { $case: "unmask", value: { signatures: this.u3.map((index) => this.agreement(index)) } };
  }

  /** What each has sent, as the coordinator keeps it. */
  advertisement(index: number): Advertisement {
    return this.#sent(index).advertisement!;
  }
  ack(index: number): IndexedSignature {
    return { index, signature: this.#sent(index).ack! };
  }
  ciphertext(from: number, to: number): EncryptedShares {
    return { index: from, ciphertext: this.#sent(from).ciphertexts!.find(({ index }) => index === to)!.ciphertext };
  }
  input(index: number): SignedInput {
    return this.#sent(index).input!;
  }
  agreement(index: number): IndexedSignature {
    return { index, signature: this.#sent(index).agreement! };
  }

  player(index: number): Player {
    return this.players[index - 1]!;
  }

  /** Shows a message to a member whose state does not change by it. */
  show(index: number, message: CoordinatorMessage) {
    const { deps, state } = this.player(index);
    return receive(deps, state, message);
  }

  get #all(): number[] {
    return this.players.map((_, at) => at + 1);
  }

  readonly #kept = new Map<number, Sent>();

  #sent(index: number): Sent {
    const sent = this.#kept.get(index) ?? {};
    const { state } = this.player(index);
    if (state.kind === "Advertised") sent.advertisement = state.message;
    if (state.kind === "Shared") {
      sent.ack = state.message.ack;
      sent.ciphertexts = state.message.shares;
    }
    if (state.kind === "Masked") sent.input = { index, root: state.input.root, signature: state.input.signature };
    if (state.kind === "Signed") sent.agreement = state.message.signature;
    this.#kept.set(index, sent);
    return sent;
  }

  #step(who: number[], request: (index: number) => CoordinatorMessage): this {
    for (const index of this.#all) this.#sent(index);
    const requests = who.map((index) => [index, request(index)] as const);
    for (const [index, message] of requests) {
      const player = this.player(index);
      const outcome = receive(player.deps, player.state, message);
      if (outcome.kind === "send") player.state = outcome.next;
      else if (outcome.kind === "mask" && player.state.kind === "Shared") {
        const vector = { root: rootOf(index), byteLength: this.terms.byteLength };
        player.state = masked(player.deps, player.state, outcome.opened, vector);
      } else throw new Error(`member ${index}: ${JSON.stringify(outcome)}`);
    }
    for (const index of this.#all) this.#sent(index);
    return this;
  }
}

interface Sent {
  advertisement?: Advertisement;
  ack?: Uint8Array;
  ciphertexts?: EncryptedShares[];
  input?: SignedInput;
  agreement?: Uint8Array;
}

export const rootOf = (index: number): Uint8Array => sha256(utf8(`vector of ${index}`));
export const upTo = (n: number): number[] => Array.from({ length: n }, (_, at) => at + 1);

export function flipped(bytes: Uint8Array, bit = 0): Uint8Array {
  const copy = Uint8Array.from(bytes);
  copy[bit >> 3]! ^= 1 << (bit & 7);
  return copy;
}

/** More entries than anybody has, of which nothing but the index may be read before the list is refused. */
export function flood(): never[] {
  const unread = {
    get(_: object, name: string | symbol) {
      if (name === "index") return 1;
      throw new Error(`looked at ${String(name)} of a list that is too long`);
    },
  };
  return Array.from({ length: 100_000 }, () => new Proxy({}, unread) as never);
}
