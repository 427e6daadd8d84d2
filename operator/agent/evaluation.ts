/**
 * An evaluation that the site itself asks for (`rondo agent evaluate`): a published adapter against an earlier one, on this site's held-out
 * text, by a Job like the training's. The losses are printed here and go nowhere else.
 * Holds: one Job per candidate at a time; it is deleted with its files however the evaluation ends; image and base model are of a plan that
 * the site accepted and that its policy still allows. Not durable: after a restart one asks again.
 */
import { randomInt } from "node:crypto";
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Logger } from "pino";
import { effect } from "../fault-injection.ts";
import { startDeadline } from "../kube/deadline.ts";
import type { Plan } from "../round/plan.ts";
import type { PodTemplate } from "../trainer/job.ts";
import type { HeldOut, Result, Task } from "../trainer/task.ts";
import { newTaskToken, type TaskServer } from "../trainer/task-server.ts";
import { HOPELESS_PATIENCE_MS } from "./assignment.ts";
import type { SitePolicy } from "./config.ts";
import type { TrainerJobs } from "./jobs.ts";
import type { Ledger } from "./ledger.ts";
import type { OperatorLink } from "./link.ts";
import { judgePolicy } from "./policy.ts";
import { adapterOf, trainingOf } from "./train-task.ts";

export interface EvaluationRequest {
  /** Whole identity or the Federation's name; may be absent where the ledger knows only one. */
  federation?: string;
  /** sha256:<hex> of adapter_model.safetensors. */
  candidate: string;
  /** Likewise; absent: the parent of the first round that this site took part in. */
  parent?: string;
}

/** Answered to the person who asked. */
export class EvaluationFault extends Error {
  override readonly name = "EvaluationFault";
  readonly reason: string;
  constructor(reason: string, message: string) {
    super(message);
    this.reason = reason;
  }
}

export interface EvaluatorDeps {
  ledger: Ledger;
  link: OperatorLink;
  jobs: TrainerJobs;
  tasks: TaskServer;
  taskUrl: string;
  workDir: string;
  podTemplate: PodTemplate;
  participant: string;
  policy: SitePolicy;
  log: Logger;
  /** Longest an evaluation may take, queueing included. */
  limitMs?: number;
  lookMs?: number;
}

const LIMIT_MS = 30 * 60_000;

export class Evaluator {
  readonly #deps: EvaluatorDeps;
  readonly #running = new Map<string, Promise<HeldOut>>();
  readonly #stop = new AbortController();

  constructor(deps: EvaluatorDeps) {
    this.#deps = deps;
  }

  /** Names of Jobs that sweep() must leave alone. */
  get jobNames(): string[] {
    return [...this.#running.keys()];
  }

  /** @throws EvaluationFault */
  async evaluate(request: EvaluationRequest): Promise<HeldOut> {
    const { plan, parent } = await this.#choose(request);
    const name = `${plan.federation.split("/").at(-1)}-eval-${digest8(parent)}-${digest8(request.candidate)}`;
    const running = this.#running.get(name) ?? this.#run(name, plan, parent, request.candidate);
    this.#running.set(name, running);
    return running.finally(() => this.#running.delete(name));
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await Promise.allSettled(this.#running.values());
  }

  async #choose(request: EvaluationRequest): Promise<{ plan: Plan; parent: string }> {
    const { ledger, policy } = this.#deps;
    const known = (await ledger.assignments()).filter(
      ({ federation, state }) =>
        // A refused plan names what this site does not run.
        state.kind !== "Refused" &&
        (!request.federation || federation === request.federation || federation.endsWith(`/${request.federation}`)),
    );
    if (new Set(known.map(({ federation }) => federation)).size > 1) {
      throw new EvaluationFault("FederationAmbiguous", "this site knows several such federations; name one");
    }
    const [first, last] = [known[0], known.at(-1)];
    const plan = last && (await ledger.plan(last));
    const firstPlan = first && (await ledger.plan(first));
    if (!plan || !firstPlan) {
      throw new EvaluationFault("FederationUnknown", "this agent has not accepted a plan of that federation yet");
    }
    const refusal = judgePolicy(plan, policy);
    if (refusal) throw new EvaluationFault(refusal.reason, refusal.message);
    return { plan, parent: request.parent ?? firstPlan.parent.digest };
  }

  async #run(name: string, plan: Plan, parent: string, candidate: string): Promise<HeldOut> {
    const { jobs, link, tasks, workDir, podTemplate, taskUrl, participant } = this.#deps;
    const limitMs = this.#deps.limitMs ?? LIMIT_MS;
    const folder = join(workDir, name);
    const deadline = startDeadline(limitMs, this.#stop.signal);
    const { signal } = deadline;
    const token = newTaskToken();
    const adapterFile = join(folder, "parent.safetensors");
    const candidateFile = join(folder, "candidate.safetensors");
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      effect("file", "make the folder of an evaluation");
      const { federation } = plan;
      // Every adapter of a federation has the plan's tensors in F32 and no other metadata, hence one length.
      const { byteLength } = plan.parent;
      await link.fetchAdapter({ federation, digest: parent, byteLength, file: adapterFile, signal });
      await link.fetchAdapter({ federation, digest: candidate, byteLength, file: candidateFile, signal });
      const result = Promise.withResolvers<Result>();
      const task = evaluateTask(plan, participant, Date.now() + limitMs);
      const onResult = async (delivered: Result) => result.resolve(delivered);
      tasks.open({ token, task, adapterFile, candidateFile, maxAdapterBytes: 0, onResult });
      await jobs.ensure({
        name,
        template: podTemplate,
        image: plan.training.image,
        resources: plan.training.resources,
        task: { url: taskUrl, caPem: tasks.caPem, token },
        labels: { federation, participant, attempt: 1, kind: "evaluate" },
        activeDeadlineSeconds: limitMs / 1000,
      });
      const { heldOut } = await Promise.race([result.promise, this.#watch(name, signal)]);
      if (!heldOut) throw new EvaluationFault("NoHeldOutText", "the trainer has no held-out text to evaluate on");
      return heldOut;
    } catch (error) {
      if (signal.aborted)
        throw new EvaluationFault("TimedOut", `the evaluation did not end within ${limitMs / 1000} s`);
      throw error;
    } finally {
      deadline.end();
      tasks.close(token);
      await jobs
        .remove(name)
        .catch((error: unknown) => this.#deps.log.warn({ err: error, job: name }, "job not removed"));
      await rm(folder, { recursive: true, force: true });
      effect("file", "remove the folder of an evaluation");
    }
  }

  /** Never resolves; rejects when the Job has failed or cannot run. */
  async #watch(name: string, signal: AbortSignal): Promise<never> {
    let hopelessMs = 0;
    const lookMs = this.#deps.lookMs ?? 1_000;
    for (;;) {
      await new Promise((resolve) => setTimeout(resolve, lookMs));
      signal.throwIfAborted();
      const seen = await this.#deps.jobs.look(name);
      hopelessMs = seen.hopeless ? hopelessMs + lookMs : 0;
      const ended = seen.state === "Failed" || seen.state === "Succeeded" || seen.state === "Missing";
      if (ended || seen.hopeless === "now" || hopelessMs >= HOPELESS_PATIENCE_MS) {
        // The result comes before the Job's end; a Job that ended without one gave none.
        throw new EvaluationFault(seen.reason, seen.message || "the trainer ended without a result");
      }
    }
  }
}

function evaluateTask(plan: Plan, participant: string, deadline: number): Task {
  return {
    schema: 1,
    kind: "evaluate",
    federation: plan.federation,
    round: 0,
    attempt: 1,
    participant,
    seed: randomInt(2 ** 48 - 1),
    baseModel: plan.baseModel,
    adapter: adapterOf(plan),
    training: trainingOf(plan),
    learningRate: plan.training.learningRate,
    frozen: null,
    recordPrivacy: null,
    deadline,
  };
}

function digest8(digest: string): string {
  return digest.replace("sha256:", "").slice(0, 8);
}
