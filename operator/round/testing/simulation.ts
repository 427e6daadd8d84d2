/**
 * A round and the world around it, for property tests: agents that keep their part of the protocol, an operator whose memory is lost in a
 * crash, a registry, a clock. Whatever is asked of it, in whatever order, it does as the real ones would, or as one that fails would.
 * Holds: what is durable (record, plans, what an agent has released, what the registry has) survives crash(); every message names the attempt
 *   that its agent knows, and one of an ended attempt is dropped as the coordinator drops it.
 */
import { expect } from "vitest";
import { type AnswerStep, applyAnswer, expects } from "../cohorts.ts";
import { decide } from "../decide.ts";
import { applyCommitment, applyNonce } from "../drawing.ts";
import { isOut } from "../participants.ts";
import { decodeRecord, encodeRecord, isTerminal, type RoundRecord } from "../record.ts";
import {
  applyContribution,
  applyFault,
  applyReport,
  applyUploadBegun,
  isOfEndedAttempt,
  type Report,
  uploadFault,
} from "../reports.ts";
import type { Action, ClosedCohort, PlanResult, PublishResult, World } from "../world.ts";
import { Planner, type Setting } from "./planner.ts";
import { known, pending, world } from "./worlds.ts";

type Memory = Pick<World, "plan" | "sum" | "candidate" | "publish" | "publishing" | "activated">;

interface Agent {
  isConnected: boolean;
  /** Of the last plan that it took; 0: it has none. */
  attempt: number;
  work: "none" | "accepted" | "training" | "trained" | "ended";
  /** It has answered unmask: from then on it must never be asked for the same delta again. */
  hasReleased: boolean;
}

const STEPS: readonly AnswerStep[] = ["advertise", "share", "consistency", "unmask"];
const NEXT = {
  none: "accepted",
  accepted: "training",
  training: "trained",
  trained: "trained",
  ended: "ended",
} as const;
const status = { kind: "status", job: "job", step: 1, steps: 2, reason: "", message: "" } as const;

export class Simulation {
  record: RoundRecord = pending();
  readonly agents: Map<string, Agent>;
  readonly setting: Setting;
  /** Adapters of this round that the registry has taken: what they are made of. */
  readonly pushed = new Set<string>();
  #actions: Action[] = [];
  #lookAgainAtMs: number | undefined;
  readonly #planner: Planner;
  #memory: Memory = noMemory();
  /** Whose bytes are in the sum, once each; in memory too. */
  readonly #summed = new Map<string, string>();
  #world: World;
  /** Of the operator's own work: what fails for now. */
  readonly broken = new Set<"plan" | "candidate">();

  constructor(setting: Setting) {
    this.setting = setting;
    this.#planner = new Planner(setting);
    this.agents = new Map(
      setting.names.map((name) => [name, { isConnected: true, attempt: 0, work: "none", hasReleased: false }]),
    );
    const candidates = setting.names.map((name) => ({ name, enrolled: true, suspended: false }));
    this.#world = world({ federation: { ...known(), terms: setting.terms, candidates } });
  }

  get nowMs(): number {
    return this.#world.nowMs;
  }

  get lookAgainAtMs(): number | undefined {
    return this.#lookAgainAtMs;
  }

  pass(ms: number): void {
    this.#world = { ...this.#world, nowMs: this.#world.nowMs + ms };
  }

  change(over: Partial<World>): void {
    this.#world = { ...this.#world, ...over };
  }

  revoke(name: string): void {
    this.change({ revoked: new Set([...this.#world.revoked, name]) });
  }

  /** Decides on what is so now. */
  look(): void {
    const connected = new Set([...this.agents].filter(([, { isConnected }]) => isConnected).map(([name]) => name));
    const decision = decide(this.record, { ...this.#world, ...this.#memory, connected });
    this.record = decision.record;
    this.#actions = decision.actions;
    this.#lookAgainAtMs = decision.lookAgainAtMs;
  }

  /** Does what the last decision asked for. @param most  it dies after so many actions */
  work(most = Number.POSITIVE_INFINITY): void {
    const actions = this.#actions.slice(0, most);
    this.#actions = [];
    for (const action of actions) this.#perform(action);
    if (actions.length >= most) this.crash();
  }

  /** The operator's process ends; the next one knows what is on disk. */
  crash(): void {
    this.record = decodeRecord(encodeRecord(this.record));
    this.#memory = noMemory();
    this.#summed.clear();
    this.#actions = [];
  }

  /** An agent does what is next for it, if anything is. */
  act(name: string): void {
    const agent = this.agents.get(name)!;
    if (!agent.isConnected) return;
    if (this.record.draw) this.#draw(name);
    if (agent.attempt === 0) return;
    // The network is slow: the last words of the attempt before come now.
    if (agent.attempt > 1) this.#late(name, agent.attempt - 1);
    if (agent.work === "trained") this.#share(name, agent);
    if (agent.work === "training") this.report(name, { ...status, state: "Trained" });
    if (agent.work === "accepted") this.report(name, { ...status, state: "Training" });
    if (agent.work === "none") this.report(name, { kind: "accept" });
    agent.work = NEXT[agent.work];
  }

  report(name: string, report: Report): void {
    const attempt = this.agents.get(name)?.attempt ?? 1;
    if (isOfEndedAttempt(this.record, attempt, report.kind)) return;
    if (report.kind === "fail" || report.kind === "refuse") this.#end(name);
    this.record = applyReport(this.record, name, report, this.nowMs);
  }

  answer(name: string, step: AnswerStep): void {
    const agent = this.agents.get(name);
    if (!agent || isOfEndedAttempt(this.record, agent.attempt, step)) return;
    if (!this.record.participants.some((p) => p.name === name)) return;
    if (step === "unmask" && expects(this.record, name, step)) agent.hasReleased = true;
    this.record = applyAnswer(this.record, name, step, this.nowMs);
  }

  /** @param root  says whose bytes these are, and of which attempt */
  upload(name: string, attempt: number, root = `${name}-${attempt}`): void {
    if (isOfEndedAttempt(this.record, attempt, "upload") || attempt > this.record.attempt) return;
    const contribution = { participant: name, root, byteLength: 100, file: `/spool/${root}` };
    if (uploadFault(this.record, contribution, this.nowMs)) return;
    this.record = applyUploadBegun(this.record, name, this.nowMs);
    this.record = applyContribution(this.record, contribution, this.nowMs);
  }

  fault(name: string): void {
    this.record = applyFault(this.record, name, { reason: "SignatureInvalid", message: "forged" }, this.nowMs);
  }

  /** The push that is under way ends. */
  pushEnds(how: "published" | "unreachable" | "refused"): void {
    if (!this.#memory.publishing) return;
    this.#memory = { ...this.#memory, publishing: false, publish: this.#pushed(how) };
  }

  /** The sum's worker finds that a contribution cannot be opened. */
  refuseInSum(name: string): void {
    const { sum } = this.#memory;
    if (this.record.secure || !this.record.contributions.some((c) => c.participant === name)) return;
    const refused = { participant: name, reason: "NotOpened", message: "record 1 was altered" };
    const added = sum.added.filter((one) => one !== name);
    this.#memory = { ...this.#memory, sum: { ...sum, added, refused: [...sum.refused, refused] } };
  }

  /** The sum of a cohort turns out to be none. */
  close(cohort: number, code: ClosedCohort["code"]): void {
    const { sum } = this.#memory;
    const known = [...(sum.opened ?? []), ...(sum.closed ?? [])];
    if (!this.record.secure?.cohorts[cohort] || known.some((one) => one.cohort === cohort)) return;
    if (code !== "SumInvalid" && this.record.secure.cohorts[cohort]!.step !== "complete") return;
    const accused = code === "InconsistentDealer" ? [{ participant: this.setting.names[0]!, identity: "a2V5" }] : [];
    const closed = [...(sum.closed ?? []), { cohort, code, message: "no sum", accused }];
    this.#memory = { ...this.#memory, sum: { ...sum, closed } };
  }

  #share(name: string, agent: Agent): void {
    // Whoever is told nothing of a later attempt goes on with the one that it knows: its words are of one that has ended.
    const step = STEPS.find((one) => expects(this.record, name, one));
    if (step) this.answer(name, step);
    else if (!this.record.secure || expects(this.record, name, "mask")) this.upload(name, agent.attempt);
  }

  #late(name: string, attempt: number): void {
    const step = STEPS.find((one) => expects(this.record, name, one));
    if (step && !isOfEndedAttempt(this.record, attempt, step)) this.answer(name, step);
    this.upload(name, attempt);
  }

  #draw(name: string): void {
    const { number } = this.record.draw!;
    this.record = applyCommitment(this.record, name, { number, commitment: `c ${name}`, signature: "s" });
    this.record = applyNonce(this.record, name, { number, nonce: `n ${name}` });
  }

  #end(name: string): void {
    const agent = this.agents.get(name);
    if (agent) agent.work = "ended";
  }

  #perform(action: Action): void {
    const { record } = this;
    const memory = this.#memory;
    switch (action.do) {
      case "plan":
        this.#memory = {
          ...memory,
          plan: this.broken.has("plan") ? this.#noPlan() : this.#planner.plan(this.record, this.nowMs),
        };
        return;
      case "dropAttempt":
        expect(action.attempt).toBe(record.attempt - 1);
        this.#memory = { ...memory, sum: { added: [], refused: [] } };
        this.#summed.clear();
        return;
      case "sendPlan":
        for (const name of action.participants) this.#deliver(name);
        return;
      case "cancel":
        for (const name of action.participants) {
          const p = record.participants.find((one) => one.name === name)!;
          expect(isOut(p) || isTerminal(record), `${name} is ${p.state} and is told to stop`).toBe(true);
          if (this.agents.get(name)!.isConnected) this.#end(name);
        }
        return;
      case "sum": {
        for (const { participant, root } of action.contributions)
          if (!this.#summed.has(participant)) this.#summed.set(participant, root);
        const refused = new Set(memory.sum.refused.map(({ participant }) => participant));
        const added = [...this.#summed.keys()].filter((one) => !refused.has(one));
        this.#memory = { ...memory, sum: { ...memory.sum, added } };
        return;
      }
      case "unmask": {
        const known = [...(memory.sum.opened ?? []), ...(memory.sum.closed ?? [])];
        if (known.some(({ cohort }) => cohort === action.cohort)) return;
        const opened = [...(memory.sum.opened ?? []), { cohort: action.cohort, liars: [] }];
        this.#memory = { ...memory, sum: { ...memory.sum, opened } };
        return;
      }
      case "makeCandidate": {
        const digest = action.contributions.map(({ participant }) => this.#summed.get(participant)).join(" ");
        const retry = { atMs: this.nowMs, tries: 1 };
        this.#memory = this.broken.has("candidate")
          ? { ...memory, candidate: { kind: "failed", problem: "no room", retry } }
          : { ...memory, candidate: { kind: "made", digest, file: "/c", byteLength: 5 } };
        return;
      }
      case "publish":
        this.#memory = { ...memory, publishing: true };
        return;
      case "abortPublish":
        this.pushEnds("unreachable");
        return;
      case "activate":
        expect(this.pushed.size).toBe(1);
        this.#memory = { ...memory, activated: true };
        return;
      default: // What an agent is asked, it looks up itself.
    }
  }

  /** As an agent takes a plan: never one that is older than what it knows, and none after it has released. */
  #deliver(name: string): void {
    const agent = this.agents.get(name)!;
    if (!agent.isConnected || agent.attempt >= this.record.attempt) return;
    expect(agent.hasReleased, `${name} has released and is asked for its delta again`).toBe(false);
    agent.attempt = this.record.attempt;
    if (agent.work === "ended")
      this.report(name, { kind: "refuse", reason: "WorkEnded", message: "it has ended here" });
  }

  #noPlan(): PlanResult {
    return { kind: "failed", problem: "the registry does not answer", retry: true, atMs: this.nowMs };
  }

  #pushed(how: "published" | "unreachable" | "refused"): PublishResult {
    if (how !== "published") {
      const unreachable = how === "unreachable";
      return { kind: "failed", problem: "the registry is down", unreachable, atMs: this.nowMs, tries: 1 };
    }
    this.pushed.add(this.record.candidate!.digest);
    return { kind: "published", version: 1, digest: "sha256:dd", reference: "registry/adapter@sha256:dd" };
  }
}

function noMemory(): Memory {
  return { sum: { added: [], refused: [] }, publishing: false, activated: false };
}
