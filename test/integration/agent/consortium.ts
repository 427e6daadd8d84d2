/**
 * Several sites with one operator: real agents in this process, each in a namespace of its own on the real API server, over real gRPC; the
 * test is kubelet and trainer of each, and the operator's coordinator (secure-coordinator.ts).
 */
import type { SitePolicy } from "../../../operator/agent/config.ts";
import { askAgent } from "../../../operator/agent/local.ts";
import type { RoundResult } from "../../../operator/agent/results.ts";
import { makeSecurePlan, secureOf } from "../../../operator/agent/testing/secure-plan.ts";
import { EVENTS } from "../../../operator/kube/resources.ts";
import type { Plan } from "../../../operator/round/plan.ts";
import { signPlan } from "../../../operator/transport/plan.ts";
import type { SharedApiServer } from "../shared-api-server.ts";
import { TestOperator } from "../transport/operator.ts";
import { SecureCoordinator } from "./secure-coordinator.ts";
import { Site } from "./site.ts";

const federation = "demo.rondo.dev/rondo/notes";

export class Consortium {
  readonly api: SharedApiServer;
  readonly operator: TestOperator;
  readonly sites: readonly Site[];
  #round = 0;

  private constructor(api: SharedApiServer, operator: TestOperator, sites: readonly Site[]) {
    this.api = api;
    this.operator = operator;
    this.sites = sites;
  }

  /** Sites clinic-a, clinic-b, …, whose agents run. */
  static async open(api: SharedApiServer, count: number, policy: Partial<SitePolicy> = {}): Promise<Consortium> {
    const operator = await TestOperator.start();
    const names = Array.from({ length: count }, (_, at) => `clinic-${String.fromCharCode(97 + at)}`);
    const rules: Partial<SitePolicy> = { privacy: ["secure"], minCohort: 3, releasesPerParent: 100, ...policy };
    const sites = await Promise.all(names.map((participant) => Site.open(api, rules, { operator, participant })));
    await Promise.all(sites.map((site) => site.startAgent()));
    return new Consortium(api, operator, sites);
  }

  async close(): Promise<void> {
    await Promise.all(this.sites.map((site) => site.stopAgent()));
    await this.operator.stop();
    await Promise.all(this.sites.map((site) => site.remove()));
  }

  site(participant: string): Site {
    return this.sites.find((site) => site.participant === participant)!;
  }

  /** The next round's plan, of all sites. */
  plan(change: Partial<Plan> = {}): Plan {
    this.#round++;
    const members = this.sites.map(({ participant }) => ({
      participant,
      identity: Buffer.from(this.operator.coordinator.members.get(participant)!.identity!).toString("base64"),
    }));
    const { sha256, byteLength } = this.sites[0]!.parent;
    const named = { federation, round: this.#round, roundName: `notes-r${this.#round}` };
    return makeSecurePlan({ parentDigest: sha256, parentBytes: byteLength, nowMs: Date.now() }, members, {
      ...named,
      ...change,
    });
  }

  /** Sends a plan to all; the round's messages go to what is returned. */
  send(plan: Plan): SecureCoordinator {
    const { signed, planHash } = signPlan(plan, this.operator.planKey.privateKey);
    const coordinator = new SecureCoordinator(this.operator, plan, planHash);
    for (const { participant } of plan.roster) this.operator.server.session(participant)?.sendPlan(signed);
    return coordinator;
  }

  /** To one that was away, as the operator does at each connection. */
  resend(plan: Plan, participant: string): void {
    const { signed } = signPlan(plan, this.operator.planKey.privateKey);
    this.operator.server.session(participant)!.sendPlan(signed);
  }

  /** The plan of the next attempt, which goes on without these. */
  later(plan: Plan, without: readonly string[], change: Partial<Plan> = {}): Plan {
    const roster = plan.roster.filter(({ participant }) => !without.includes(participant));
    const cohorts = plan.secure!.cohorts.map(({ members }) => members.filter((name) => !without.includes(name)));
    return { ...plan, attempt: plan.attempt + 1, roster, secure: secureOf(cohorts), ...change };
  }

  /** Every site trains; site number i's values are all 1 + deltas[i]. */
  async train(plan: Plan, deltas: readonly number[]): Promise<void> {
    await Promise.all(
      this.sites.map(async (site, at) => {
        const job = `${plan.roundName}-${site.participant}-1`;
        await site.kubelet.run(job);
        const trainer = await site.trainer(job);
        const adapter = await site.adapter(() => 1 + deltas[at]!);
        await trainer.deliver(adapter, { examples: 50, tokens: 1000, trainLoss: 2.5 });
      }),
    );
  }

  async result(participant: string, plan: Plan): Promise<RoundResult | undefined> {
    const all = await askAgent<RoundResult[]>(this.site(participant).agent.adminSocket, "GET", "/v1/results");
    return all.find(({ name, attempt }) => name === plan.roundName && attempt === plan.attempt);
  }

  /** Waits until this site's part of the round is in this state. */
  async ended(participant: string, plan: Plan, state: string): Promise<RoundResult> {
    let result: RoundResult | undefined;
    await this.site(participant).until(async () => {
      result = await this.result(participant, plan);
      return result?.state === state;
    }, `${participant} ${state} in ${plan.roundName}`);
    return result!;
  }

  cancelAll(plan: Plan, reason: string, message: string): void {
    for (const site of this.sites) site.cancel(plan, reason, message);
  }

  /** The agent's Warning Events in a site's namespace, as its people see them. */
  async warnings(participant: string): Promise<Array<{ reason: string; note: string; about: string }>> {
    const { items } = await this.api.client.list(EVENTS, { namespace: this.site(participant).namespace });
    return items
      .filter(({ type, reportingController }) => type === "Warning" && reportingController === "rondo.dev/agent")
      .map(({ reason = "", note = "", regarding }) => ({
        reason,
        note,
        about: `${regarding?.kind} ${regarding?.name}`,
      }));
  }
}
