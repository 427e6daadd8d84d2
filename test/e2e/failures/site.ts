/** One site of the federation under test: what its trainers do, what its volumes hold, and what is left in its cluster. */
import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import type { SessionRow, SessionState } from "../../../operator/agent/secagg/session-record.ts";
import type { KubeClient } from "../../../operator/kube/client.ts";
import { JOBS, SECRETS } from "../../../operator/kube/resources.ts";
import { NAMESPACE } from "../../demo/install.ts";
import type { Kubectl } from "../../demo/programs.ts";
import { journalled } from "./journals.ts";

/** What trainers/misbehaving.py understands. */
export type Behaviour = "train" | "real" | "crash" | "hang" | "wait" | "nan" | "wrong shape" | "another rank";

const TRAINERS = "test/e2e/failures";
const RECORDS = 40;

export class Site {
  readonly name: string;
  /** That its policy allows. */
  readonly images: readonly string[];
  /** What its trainers that `train` add to the first value of every tensor: a mean of such steps tells whose are in it. */
  readonly step: number;
  readonly kubectl: Kubectl;
  readonly kube: KubeClient;
  readonly folders: { agent: string; behaviour: string; model: string; data: string };

  constructor(
    { name, images, step, folder }: { name: string; images: readonly string[]; step: number; folder: string },
    { kubectl, kube }: { kubectl: Kubectl; kube: KubeClient },
  ) {
    this.name = name;
    this.images = images;
    this.step = step;
    this.kubectl = kubectl;
    this.kube = kube;
    this.folders = {
      agent: join(folder, "agent"),
      behaviour: join(folder, "behaviour"),
      model: join(folder, "model"),
      data: join(folder, "data"),
    };
  }

  /** Folders with a well-behaved trainer and good data. */
  prepare(): void {
    const { behaviour, data } = this.folders;
    for (const folder of [behaviour, data]) mkdirSync(folder, { recursive: true });
    chmodSync(data, 0o755);
    copyFileSync(join(TRAINERS, "misbehaving.py"), join(behaviour, "misbehaving.py"));
    writeFileSync(join(behaviour, "step"), String(this.step));
    this.behave("train");
    this.hold(goodLines());
  }

  behave(behaviour: Behaviour): void {
    rmSync(join(this.folders.behaviour, "go"), { force: true });
    writeFileSync(join(this.folders.behaviour, "do"), behaviour);
  }

  /** Trainers that wait go on. */
  letGo(): void {
    writeFileSync(join(this.folders.behaviour, "go"), "");
  }

  /** How often a trainer has begun on this round; the ones that are `real` are not counted. */
  starts(federation: string, round: number): number {
    const file = join(this.folders.behaviour, "starts");
    const lines = existsSync(file) ? readFileSync(file, "utf8").split("\n") : [];
    return lines.filter((line) => line === `${federation} ${round}`).length;
  }

  /** How the site's session of this round ended, as its agent's ledger says; undefined: there was none. */
  sessionOf(federation: string, round: number): { state: SessionState; refused: boolean } | undefined {
    const ledger = join(this.folders.agent, "ledger.db");
    const isOf = (key: string) => key.includes(`/${federation}#${String(round).padStart(16, "0")}#`);
    if ([...journalled(ledger, "session-secrets").keys()].some(isOf)) throw new Error("secrets of a session are kept");
    const [, row] = [...journalled(ledger, "sessions")].find(([key]) => isOf(key)) ?? [];
    const { state, refused } = (row ?? {}) as Partial<SessionRow>;
    return state && { state, refused: refused !== undefined };
  }

  /** @param lines of the site's only data file; undefined: there is none */
  hold(lines: readonly string[] | undefined): void {
    const file = join(this.folders.data, "records.jsonl");
    if (lines === undefined) rmSync(file, { force: true });
    else writeFileSync(file, lines.map((line) => `${line}\n`).join(""));
  }

  /** As if the site had got its base model from elsewhere. */
  changeWeights(): void {
    appendFileSync(join(this.folders.model, "model.safetensors"), "\n");
  }

  restoreWeights(): void {
    copyFileSync("test/models/tiny-llama/model.safetensors", join(this.folders.model, "model.safetensors"));
  }

  /** Jobs and Secrets of the round in this cluster. */
  async leftOf(round: string): Promise<string[]> {
    const [jobs, secrets] = await Promise.all([
      this.kube.list(JOBS, { namespace: NAMESPACE, labelSelector: `rondo.dev/round=${round}` }),
      this.kube.list(SECRETS, { namespace: NAMESPACE, labelSelector: `rondo.dev/round=${round}` }),
    ]);
    return [
      ...jobs.items.map(({ metadata }) => `${this.name}: Job ${metadata.name}`),
      ...secrets.items.map(({ metadata }) => `${this.name}: Secret ${metadata.name}`),
    ];
  }
}

export const goodLines = (): string[] =>
  Array.from({ length: RECORDS }, (_, index) =>
    JSON.stringify({ prompt: `What is ${index} and one?`, completion: `It is ${index + 1}.` }),
  );
