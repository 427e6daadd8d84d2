/**
 * An agent played by the test: real enrolment, TLS, signatures, sealing and upload through operator/transport/client.ts; only the
 * site's cluster and its trainer are missing. What it "trains" is a delta the test names.
 */
import { type KeyObject, randomBytes, sign } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { writeSafetensors } from "../../../operator/publish/safetensors.ts";
import type { Plan } from "../../../operator/round/plan.ts";
import { commitmentBytes, commitmentToNonce } from "../../../operator/secagg/draw.ts";
import { CoordinatorClient } from "../../../operator/transport/client.ts";
import type { AgentReport } from "../../../operator/transport/coordinator.ts";
import { fileCredentialStore } from "../../../operator/transport/credential.ts";
import type {
  Cancellation,
  DrawStep,
  Manifest,
  ProtocolStep,
  Signed,
  Work,
} from "../../../operator/transport/generated/rondo.v1.ts";
import { generateIdentity, publicKeyFromRaw } from "../../../operator/transport/identity.ts";
import type { Invitation } from "../../../operator/transport/invitation.ts";
import { openPlan } from "../../../operator/transport/plan.ts";
import { sealFile } from "../../../operator/transport/sealing.ts";
import { manifestOf } from "../../../operator/transport/upload-client.ts";

export interface Assignment {
  plan: Plan;
  planHash: Uint8Array;
}

/** What the site does with a plan. */
export type Behaviour = (player: Player, assignment: Assignment) => Promise<void>;

/** From when on it says nothing any more in a draw of cohorts. */
export type DrawBehaviour = "honest" | "neverCommits" | "neverReveals";

const ANSWERS = { keys: "share", shares: "upload", consistency: "consistency", unmask: "unmask" } as const;

export class Player {
  readonly name: string;
  readonly plans: Assignment[] = [];
  readonly cancellations: Cancellation[] = [];
  readonly disconnections: string[] = [];
  /** What was asked of it in secure rounds although its answer had been acknowledged. */
  readonly askedAgain: string[] = [];
  readonly #acknowledged = new Set<string>();
  draws: DrawBehaviour = "honest";
  /** Before it answers in a draw. */
  onDraw: (step: DrawStep) => Promise<unknown> | undefined = () => undefined;
  /** Told of each step as it arrives. */
  onStep: (step: ProtocolStep) => void = () => {};
  readonly #identity: KeyObject;
  readonly #nonces = new Map<string, Uint8Array>();
  readonly #folder: string;
  readonly #client: CoordinatorClient;
  readonly errors: unknown[] = [];

  /** @param identity  of a site that is enrolled already, with its credential in the folder; by default it enrols with a new one */
  constructor(
    invitation: Invitation,
    folder: string,
    behaviour: Behaviour,
    identity: KeyObject = generateIdentity().privateKey,
  ) {
    this.#identity = identity;
    this.name = invitation.participant;
    this.#folder = join(folder, invitation.participant);
    const planKey = publicKeyFromRaw(Buffer.from(invitation.planKey, "base64"));
    this.#client = new CoordinatorClient(
      { invitation, identity: this.#identity, reconnect: { firstMs: 100, mostMs: 500 } },
      {
        store: fileCredentialStore(join(this.#folder, "credential.json")),
        introduce: async () => ({
          agentVersion: "0.0.0-test",
          capacity: { gpus: 2, gpuResourceName: "nvidia.com/gpu" },
          open: this.plans.map(({ plan }) => this.work(plan, "attend")),
        }),
        handlers: {
          plan: (signed: Signed) => {
            const { plan, planHash } = openPlan(signed, planKey);
            if (this.plans.some((known) => Buffer.from(known.planHash).equals(planHash))) return;
            this.plans.push({ plan, planHash });
            behaviour(this, { plan, planHash }).catch((error: unknown) => this.errors.push(error));
          },
          step: (step) => {
            const asked = `${step.work!.round} ${step.work!.attempt} ${ANSWERS[step.step!.$case]}`;
            if (this.#acknowledged.has(asked)) this.askedAgain.push(asked);
            this.onStep(step);
          },
          draw: (step) => {
            this.#draw(step).catch((error: unknown) => this.errors.push(error));
          },
          cancelled: (cancellation) => this.cancellations.push(cancellation),
          connected: () => {},
          disconnected: (reason) => this.disconnections.push(reason),
        },
      },
    );
  }

  async start(): Promise<void> {
    await mkdir(this.#folder, { recursive: true });
    this.#client.start();
  }

  stop(): Promise<void> {
    return this.#client.stop();
  }

  get isConnected(): boolean {
    return this.#client.isConnected;
  }

  work(plan: Plan, step: string): Work {
    const { federation, round, attempt, purpose } = plan;
    return { federation, round, attempt, purpose, participant: this.name, step };
  }

  accept({ plan, planHash }: Assignment): Promise<void> {
    return this.#client.send("accept", { work: this.work(plan, "accept"), planHash });
  }

  refuse({ plan, planHash }: Assignment, reason: string, message: string): Promise<void> {
    return this.#client.send("refuse", { work: this.work(plan, "refuse"), planHash, reason, message });
  }

  fail({ plan }: Assignment, reason: string, message: string, accused: string[] = []): Promise<void> {
    return this.#client.send("fail", { work: this.work(plan, "fail"), reason, message, accused });
  }

  /** Any report, right or wrong. */
  async send({ kind, body }: AgentReport): Promise<void> {
    await this.#client.send(kind, body as never);
    this.#acknowledged.add(`${body.work!.round} ${body.work!.attempt} ${kind}`);
  }

  /** Any file under any manifest. */
  async upload(manifest: Manifest, file: string, onProgress: (bytes: number) => void = () => {}): Promise<void> {
    await this.#client.upload(manifest, file, { onProgress });
    this.#acknowledged.add(`${manifest.work!.round} ${manifest.work!.attempt} upload`);
  }

  /** By its long-term key. */
  sign(bytes: Uint8Array): Uint8Array {
    return new Uint8Array(sign(null, bytes, this.#identity));
  }

  file(name: string): string {
    return join(this.#folder, name);
  }

  status({ plan }: Assignment, state: string, more: { step?: number; reason?: string; message?: string } = {}) {
    return this.#client.send("status", {
      work: this.work(plan, "status"),
      state,
      job: `${plan.roundName}-${this.name}-1`,
      progressStep: more.step ?? 0,
      progressSteps: more.step === undefined ? 0 : (plan.training.steps ?? 100),
      reason: more.reason ?? "",
      message: more.message ?? "",
    });
  }

  async #draw({ work, step }: DrawStep): Promise<void> {
    const { federation, round, attempt: number } = work!;
    await this.onDraw({ work, step });
    const key = `${round} ${number}`;
    const ownWork = (kind: string) => ({ ...work!, participant: this.name, step: kind });
    if (step?.$case === "opening" && this.draws !== "neverCommits") {
      const nonce = this.#nonces.get(key) ?? new Uint8Array(randomBytes(32));
      this.#nonces.set(key, nonce);
      const commitment = commitmentToNonce(nonce);
      const signature = this.sign(commitmentBytes({ federation, round, number }, commitment));
      await this.#client.send("commit", { work: ownWork("commit"), commitment, signature });
    }
    if (step?.$case === "commitments" && this.draws === "honest")
      await this.#client.send("reveal", { work: ownWork("reveal"), nonce: this.#nonces.get(key)! });
  }

  /** What this player remembers of a draw. */
  nonceOf(round: number, number: number): Uint8Array | undefined {
    return this.#nonces.get(`${round} ${number}`);
  }

  /** Fetches the round's parent adapter, verified by its digest. */
  async parent({ plan }: Assignment): Promise<string> {
    const file = join(this.#folder, `${plan.roundName}-parent.safetensors`);
    await this.#client.download(Buffer.from(plan.parent.digest.slice(7), "hex"), file, {
      federation: plan.federation,
      expectedBytes: plan.parent.byteLength,
    });
    return file;
  }

  /** Seals a delta that is `value` everywhere and uploads it; resolves with the receipt. */
  async contribute(
    { plan, planHash }: Assignment,
    value: number,
    {
      weight = 255,
      loss,
      onProgress,
    }: { weight?: number; loss?: { tokens: number; lossTokens: number }; onProgress?: (bytes: number) => void } = {},
  ): Promise<void> {
    const plain = join(this.#folder, `${plan.roundName}-delta.safetensors`);
    const sealed = `${plain}.sealed-${Date.now()}`;
    const said = Object.entries({ weight, ...loss }).map(([name, value]) => [name, String(value)] as const);
    await writeSafetensors(plain, plan.tensors, new Map(said), function* ({ shape }) {
      yield new Float32Array(shape[0]! * shape[1]!).fill(value);
    });
    const publicKey = Buffer.from(plan.sealing!.publicKey, "base64");
    await sealFile(plain, sealed, { publicKey, planHash, participant: this.name });
    const manifest = await manifestOf(sealed, this.work(plan, "upload"), planHash);
    await this.#client.upload(manifest, sealed, onProgress ? { onProgress } : {});
  }
}

/** The good site: fetches the parent, trains in no time, contributes. */
export function trains(
  value: number,
  {
    weight,
    loss,
    until,
  }: { weight?: number; loss?: { tokens: number; lossTokens: number }; until?: Promise<unknown> } = {},
): Behaviour {
  return async (player, assignment) => {
    await player.accept(assignment);
    await player.parent(assignment);
    await player.status(assignment, "Training", { step: 1 });
    await until;
    await player.status(assignment, "Trained", { step: assignment.plan.training.steps });
    await player.contribute(assignment, value, {
      ...(weight !== undefined && { weight }),
      ...(loss && { loss }),
    });
  };
}
