/** One site of the federation under test: what its trainers do, what its volumes hold, and what is left in its cluster. */
import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import type { SessionRow, SessionState } from "../../../operator/agent/secagg/session-record.ts";
import type { KubeClient } from "../../../operator/kube/client.ts";
import type { KubeObject } from "../../../operator/kube/objects.ts";
import { JOBS, PODS, SECRETS } from "../../../operator/kube/resources.ts";
import { NAMESPACE } from "../../demo/install.ts";
import type { Kubectl } from "../../demo/programs.ts";
import { journalled, journalledKeys } from "./journals.ts";

/** What trainers/misbehaving.py understands. */
export type Behaviour =
  | "train"
  | "real"
  | "crash"
  | "crash once"
  | "oom"
  | "oom once"
  | `exit ${number}`
  | "hang"
  | "wait"
  | "nan"
  | "wrong shape"
  | "another rank";

const TRAINERS = "test/e2e/failures";
/** In the behaviour folder. */
const COMMAND = "trainer.py";
export const TRAINER_COMMAND = `/rondo/behaviour/${COMMAND}`;
const RECORDS = 40;

export interface SiteOptions {
  name: string;
  images: readonly string[];
  step: number;
  folder: string;
  /** By itself called like the site. */
  cluster?: string;
  namespace?: string;
}

export class Site {
  readonly name: string;
  readonly cluster: string;
  /** Of its agent and trainers. */
  readonly namespace: string;
  /** That its policy allows. */
  readonly images: readonly string[];
  /** What its trainers that `train` add to every value: a mean of such steps tells whose are in it. */
  readonly step: number;
  readonly kubectl: Kubectl;
  readonly kube: KubeClient;
  readonly folders: { agent: string; behaviour: string; model: string; data: string };

  constructor(
    { name, images, step, folder, cluster = name, namespace = NAMESPACE }: SiteOptions,
    { kubectl, kube }: { kubectl: Kubectl; kube: KubeClient },
  ) {
    this.name = name;
    this.cluster = cluster;
    this.namespace = namespace;
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
    this.restoreCommand();
    writeFileSync(join(behaviour, "step"), String(this.step));
    this.behave("train");
    this.hold(goodLines());
  }

  /** @param federation  whose trainers; undefined: all that were told nothing of their own */
  behave(behaviour: Behaviour, federation?: string): void {
    rmSync(this.#file("go", federation), { force: true });
    writeFileSync(this.#file("do", federation), behaviour);
  }

  /** Trainers that wait go on. */
  letGo(federation?: string): void {
    writeFileSync(this.#file("go", federation), "");
  }

  /** As after prepare(). */
  behaveWell(): void {
    for (const name of readdirSync(this.folders.behaviour)) {
      if (/^(do|go)\.|^skew$/.test(name)) rmSync(join(this.folders.behaviour, name));
    }
    this.behave("train");
    this.restoreCommand();
  }

  /** The trainers' command is gone from where the site's pod template has it. */
  removeCommand(): void {
    rmSync(join(this.folders.behaviour, COMMAND));
  }

  restoreCommand(): void {
    const command = join(this.folders.behaviour, COMMAND);
    copyFileSync(join(TRAINERS, "misbehaving.py"), command);
    chmodSync(command, 0o755);
  }

  /** @param seconds  by which the agent's clock, and so every deadline that its trainers are told, is ahead of theirs */
  skewTrainers(seconds: number): void {
    writeFileSync(join(this.folders.behaviour, "skew"), String(seconds));
  }

  #file(name: "do" | "go", federation: string | undefined): string {
    return join(this.folders.behaviour, federation ? `${name}.${federation}` : name);
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
    if (journalledKeys(ledger, "session-secrets").some(isOf)) throw new Error("secrets of a session are kept");
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

  /** Jobs, pods and Secrets of the round in this cluster, and its folders on the agent's volume. */
  async leftOf(round: string): Promise<string[]> {
    const ofRound = { namespace: this.namespace, labelSelector: `rondo.dev/round=${round}` };
    const lists = await Promise.all([JOBS, PODS, SECRETS].map((kind) => this.kube.list<KubeObject>(kind, ofRound)));
    const work = join(this.folders.agent, "work");
    const folders = existsSync(work)
      ? readdirSync(work).filter((name) => name.startsWith(`${round}-${this.name}-`))
      : [];
    return [
      ...lists.flatMap(({ items }, kind) =>
        items.map(({ metadata }) => `${this.name}: ${["Job", "pod", "Secret"][kind]} ${metadata.name}`),
      ),
      ...folders.map((name) => `${this.name}: folder ${name}`),
    ];
  }
}

export const goodLines = (): string[] =>
  Array.from({ length: RECORDS }, (_, index) =>
    JSON.stringify({ prompt: `What is ${index} and one?`, completion: `It is ${index + 1}.` }),
  );
