/**
 * The `initialise` Job (trainer.md): a trainer in this cluster that makes version 0 from the base model's configuration alone, and the
 * task it fetches from us. Job and task are named after the Federation, so that a restart finds them.
 * Holds: the token is journalled before the Job exists (space "initialise"), so that a Job never outlives its task by our restart.
 */
import { randomInt } from "node:crypto";
import { rm } from "node:fs/promises";
import { z } from "zod";
import type { Federation } from "../../api/federation.ts";
import { effect } from "../../fault-injection.ts";
import { isKubeFault } from "../../kube/faults.ts";
import { controllerReference } from "../../kube/objects.ts";
import { CORE_EVENTS, JOBS, type Job, PODS, SERVICES } from "../../kube/resources.ts";
import { buildTrainerJob } from "../../trainer/job.ts";
import { observeJob } from "../../trainer/observe-job.ts";
import { writeTaskSecret } from "../../trainer/task-secret.ts";
import { newTaskToken, type TaskServer } from "../../trainer/task-server.ts";
import { DELIVERED, MOST_ADAPTER_BYTES } from "../adapters.ts";
import { type Context, federationId } from "../context.ts";

/** An image pull and some seconds of work on the meta device. */
const DEADLINE_MS = 30 * 60_000;
/** It draws random numbers on the CPU: no GPU, whatever training asks for. */
const RESOURCES = { gpus: 0, gpuResourceName: "nvidia.com/gpu", memory: "2Gi", cpu: "500m" };
const LOOK_AGAIN_MS = 2_000;
const SPACE = "initialise";

const storedSchema = z.strictObject({
  /** Of the Federation; its uid is the key. */
  name: z.string(),
  token: z.string(),
  seed: z.int(),
  generation: z.int(),
  deadlineMs: z.int(),
  delivered: z.boolean(),
});
type Stored = z.infer<typeof storedSchema>;

function parseStored(bytes: Uint8Array): Stored {
  return storedSchema.parse(JSON.parse(Buffer.from(bytes).toString("utf8")));
}

export type JobSource =
  | { kind: "making"; message: string; againMs: number }
  | { kind: "made"; file: string }
  | { kind: "failed"; problem: string };

export class InitialiseJobs {
  readonly #context: Context;
  readonly #tasks: () => Promise<TaskServer>;
  readonly #wake: (federation: string) => void;
  readonly #opened = new Set<string>();
  readonly #created = new Set<string>();
  /** Uids of federations whose Job this process has seen to be gone. */
  readonly #forgotten = new Set<string>();

  /** @param tasks  started when the first federation needs it */
  constructor(context: Context, tasks: () => Promise<TaskServer>, wake: (federation: string) => void) {
    this.#context = context;
    this.#tasks = tasks;
    this.#wake = wake;
  }

  async follow(federation: Federation): Promise<JobSource> {
    const { name, namespace, uid, generation } = federation.metadata;
    const stored = (await this.#read(uid)) ?? (await this.#begin(federation));
    const output = this.#output(uid);
    if (stored.delivered) return { kind: "made", file: output };
    await this.#open(federation, stored);
    const jobName = jobNameOf(name);
    const job = await this.#context.client.get(JOBS, { namespace, name: jobName });
    const expired = !job && this.#context.now() >= stored.deadlineMs;
    if (expired || stored.generation !== generation || (job && job.metadata.ownerReferences?.[0]?.uid !== uid)) {
      return this.#startOver(federation, job !== undefined);
    }
    // After a restart as well: the process may have ended between Job and Secret.
    if (!job || !this.#created.has(stored.token)) await this.#create(federation, stored);
    if (!job) {
      return { kind: "making", message: "version 0 is being made", againMs: LOOK_AGAIN_MS };
    }
    return this.#judge(federation, job, stored);
  }

  /** After version 0 is published. */
  async forget(federation: Federation): Promise<void> {
    const { uid, name, namespace } = federation.metadata;
    const stored = await this.#read(uid);
    if (!stored) return;
    await this.#context.client.delete(JOBS, { namespace, name: jobNameOf(name) });
    await this.#drop(uid, stored);
  }

  /** Of a federation that has a version: the process that published it may have died before it could forget. */
  async forgetOnce(federation: Federation): Promise<void> {
    const { uid } = federation.metadata;
    if (this.#forgotten.has(uid)) return;
    await this.forget(federation);
    this.#forgotten.add(uid);
  }

  /** When no Federation has this name any more: the Job went with its owner, its task and token go here. */
  async forgetNamed(name: string): Promise<void> {
    for (const { key: uid, value } of await this.#context.journal.entries(SPACE)) {
      const stored = parseStored(value);
      if (stored.name === name) await this.#drop(uid, stored);
    }
  }

  async #drop(uid: string, { token }: Stored): Promise<void> {
    (await this.#tasks()).close(token);
    this.#opened.delete(token);
    this.#created.delete(token);
    await rm(this.#output(uid), { force: true });
    effect("file", "remove the output of an initialise Job");
    await this.#context.journal.commit([{ remove: { space: SPACE, key: uid } }]);
  }

  async #judge(federation: Federation, job: Job, stored: Stored) {
    const { namespace } = federation.metadata;
    const labelSelector = `job-name=${job.metadata.name}`;
    const { items: pods } = await this.#context.client.list(PODS, { namespace, labelSelector });
    const names = [job.metadata.name, ...pods.map((pod) => pod.metadata.name)];
    const lists = await Promise.all(
      names.map((name) =>
        this.#context.client.list(CORE_EVENTS, { namespace, fieldSelector: `involvedObject.name=${name}` }),
      ),
    );
    const seen = observeJob(
      job,
      pods,
      lists.flatMap(({ items }) => items),
    );
    const overdue = this.#context.now() >= stored.deadlineMs;
    if (seen.state === "Failed" || seen.hopeless || overdue) {
      const problem = `Job ${job.metadata.name}: ${seen.message || "it did not end in 30 minutes"}; delete the Job to try again`;
      return { kind: "failed", problem } as const;
    }
    // A Job that succeeded without a result: the result may just be on its way.
    const message = seen.message || "version 0 is being made";
    return { kind: "making", message, againMs: LOOK_AGAIN_MS } as const;
  }

  async #startOver(federation: Federation, hasJob: boolean): Promise<JobSource> {
    const { uid, name, namespace } = federation.metadata;
    if (hasJob) await this.#context.client.delete(JOBS, { namespace, name: jobNameOf(name) });
    const stored = await this.#read(uid);
    if (stored) (await this.#tasks()).close(stored.token);
    await this.#context.journal.commit([{ remove: { space: SPACE, key: uid } }]);
    return { kind: "making", message: "the Federation changed; version 0 is made anew", againMs: LOOK_AGAIN_MS };
  }

  async #begin(federation: Federation): Promise<Stored> {
    const stored: Stored = {
      name: federation.metadata.name,
      token: newTaskToken(),
      seed: randomInt(2 ** 47),
      generation: federation.metadata.generation,
      deadlineMs: this.#context.now() + DEADLINE_MS,
      delivered: false,
    };
    await this.#write(federation.metadata.uid, stored);
    return stored;
  }

  async #open(federation: Federation, stored: Stored): Promise<void> {
    if (this.#opened.has(stored.token)) return;
    const { adapter, baseModel } = federation.spec;
    const { uid, name } = federation.metadata;
    const { name: model, revision, digest } = baseModel;
    (await this.#tasks()).open({
      token: stored.token,
      task: {
        schema: 1,
        kind: "initialise",
        federation: federationId(this.#context, name),
        round: 0,
        attempt: 1,
        participant: "operator",
        seed: stored.seed,
        baseModel: { name: model, revision, digest },
        adapter: {
          rank: adapter.rank,
          alpha: adapter.alpha,
          targetModules: adapter.targetModules,
          scaling: adapter.alpha / adapter.rank,
        },
        training: null,
        learningRate: null,
        frozen: null,
        recordPrivacy: null,
        deadline: stored.deadlineMs,
      },
      outputFile: this.#output(uid),
      maxAdapterBytes: MOST_ADAPTER_BYTES,
      onResult: async () => {
        await this.#write(uid, { ...stored, delivered: true });
        this.#wake(name);
      },
    });
    this.#opened.add(stored.token);
  }

  async #create(federation: Federation, stored: Stored): Promise<void> {
    const { client, config, now } = this.#context;
    const { name, namespace } = federation.metadata;
    const tasks = await this.#tasks();
    const { job, secret } = buildTrainerJob({
      name: jobNameOf(name),
      namespace,
      template: config.initialise.podTemplate,
      image: federation.spec.training.image,
      resources: RESOURCES,
      task: { url: await this.#taskUrl(), caPem: tasks.caPem, token: stored.token },
      labels: { federation: federationId(this.#context, name), attempt: 1, kind: "initialise" },
      owner: controllerReference({ ...federation, apiVersion: "rondo.dev/v1alpha1", kind: "Federation" }),
      activeDeadlineSeconds: Math.max(1, (stored.deadlineMs - now()) / 1000),
    });
    let made: Job;
    try {
      made = await client.create(JOBS, job);
    } catch (error) {
      if (!isKubeFault(error, "AlreadyExists")) throw error;
      const found = await client.get(JOBS, job.metadata);
      if (!found) throw error;
      made = found;
    }
    await writeTaskSecret(client, secret, made);
    this.#created.add(stored.token);
  }

  /** By the Service's cluster IP: trainers need no DNS. */
  async #taskUrl(): Promise<string> {
    const { namespace, tasks } = this.#context.config;
    const service = await this.#context.client.get(SERVICES, { namespace, name: tasks.service });
    const ip = service?.spec?.clusterIP;
    const port = service?.spec?.ports?.[0]?.port;
    if (!ip || !port) throw new Error(`Service ${tasks.service} does not exist or has no cluster IP`);
    return `https://${ip.includes(":") ? `[${ip}]` : ip}:${port}`;
  }

  #output(uid: string): string {
    return this.#context.adapters.scratch(`${DELIVERED}${uid}`);
  }

  async #read(uid: string): Promise<Stored | undefined> {
    const bytes = await this.#context.journal.get(SPACE, uid);
    return bytes && parseStored(bytes);
  }

  async #write(uid: string, stored: Stored): Promise<void> {
    await this.#context.journal.commit([
      { put: { space: SPACE, key: uid, value: Buffer.from(JSON.stringify(stored)) } },
    ]);
  }
}

function jobNameOf(federation: string): string {
  return `${federation}-initialise`;
}
