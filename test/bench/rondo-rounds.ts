/**
 * Rondo's own side of the round benchmark: real operator, agents, transport, journal, API server and registry (federation.ts),
 * five rounds one after the other that the Federation creates itself.
 */
import { mkdir } from "node:fs/promises";
import type { RawObject } from "../../operator/kube/objects.ts";
import { ADAPTER_VERSIONS, FEDERATION_ROUNDS, FEDERATIONS } from "../../operator/kube/resources.ts";
import { type BenchFederation, IMAGE, startFederation } from "./federation.ts";
import { MODEL, MODULES, pushInitial } from "./initial-adapter.ts";
import { FEATURES, LAYERS, PARTICIPANTS, RANK, ROUNDS } from "./payload.ts";
import type { PeerRun } from "./peers/peer-run.ts";
import { eventually } from "./programs.ts";

const FEDERATION = "bench";
const LIMIT_S = 300;

export interface RondoRun extends PeerRun {
  /** Of each round: from the last contribution to Succeeded. */
  endingSeconds: number[];
  /** Median seconds per phase. */
  phases: Record<string, number[]>;
}

interface RoundObject extends RawObject {
  status?: {
    number?: number;
    phase?: string;
    contributions?: string;
    participants?: Array<{ state: string; since: string }>;
    phaseTimes?: Array<{ phase: string; at: string }>;
    conditions?: Array<{ type: string; status: string; message?: string }>;
  };
}

export type Privacy = "secure" | "trusted";

export async function runRondo(folder: string, privacy: Privacy): Promise<RondoRun> {
  await mkdir(folder, { recursive: true });
  await using federation = await startFederation(folder, PARTICIPANTS);
  const initial = await pushInitial(federation.registry, folder, { rank: RANK, features: FEATURES, layers: LAYERS });
  await federation.api.client.create(FEDERATIONS, manifest(federation, initial, privacy));
  const rounds = await finished(federation);
  federation.processes.sample();
  const times = rounds.map(
    (round) => new Map(round.status?.phaseTimes?.map(({ phase, at }) => [phase, Date.parse(at) / 1000])),
  );
  return {
    title: privacy === "secure" ? "Rondo, secure aggregation" : "Rondo, trusted operator",
    seconds: times.map((time) => time.get("Succeeded")! - Math.min(...time.values())),
    endingSeconds: rounds.map((round, i) => times[i]!.get("Succeeded")! - lastContribution(round)),
    phases: secondsByPhase(rounds),
    server: federation.processes.usage("server"),
    cpuSeconds: federation.processes.cpuSeconds(),
  };
}

function manifest({ namespace, registry }: BenchFederation, initial: string, privacy: Privacy) {
  return {
    metadata: { name: FEDERATION, namespace },
    spec: {
      baseModel: MODEL,
      adapter: { rank: RANK, alpha: 2 * RANK, targetModules: MODULES, initialFrom: { reference: initial } },
      training: {
        image: IMAGE,
        task: "instruction",
        steps: 1,
        batchSize: 1,
        sequenceLength: 128,
        learningRate: "1e-4",
        resources: { gpus: 0, memory: "64Mi", cpu: "1" },
      },
      participants: { selector: { matchLabels: { bench: "yes" } }, minimum: PARTICIPANTS },
      deadlines: { accept: "2m", training: "5m", aggregation: "5m" },
      aggregation: {
        privacy,
        rule: "mean",
        lora: "average",
        weighting: "examples",
        exampleCap: 100,
        clipNorm: "1.0",
      },
      publish: { oci: { repository: `${registry.host}/bench/adapters`, plainHTTP: true } },
      rounds: { count: ROUNDS },
    },
  };
}

async function finished({ api, namespace }: BenchFederation): Promise<RoundObject[]> {
  let rounds: RoundObject[] = [];
  await eventually(`${ROUNDS} rounds`, LIMIT_S, async () => {
    const { items } = await api.client.list(FEDERATION_ROUNDS, { namespace });
    rounds = items as RoundObject[];
    const failed = rounds.find((round) => round.status?.phase === "Failed");
    if (failed !== undefined) throw new Error(`a round failed: ${JSON.stringify(failed.status)}`);
    return rounds.filter((round) => round.status?.phase === "Succeeded").length === ROUNDS;
  });
  const short = rounds.find((round) => round.status?.contributions !== `${PARTICIPANTS}/${PARTICIPANTS}`);
  if (short !== undefined) throw new Error(`a round had ${short.status?.contributions} contributions`);
  const { items: versions } = await api.client.list(ADAPTER_VERSIONS, { namespace });
  if (versions.length !== ROUNDS + 1) throw new Error(`${versions.length} adapter versions after ${ROUNDS} rounds`);
  return rounds.sort((a, b) => (a.status?.number ?? 0) - (b.status?.number ?? 0));
}

function lastContribution(round: RoundObject): number {
  const contributed = round.status?.participants?.filter(({ state }) => state === "Contributed") ?? [];
  return Math.max(...contributed.map(({ since }) => Date.parse(since) / 1000));
}

function secondsByPhase(rounds: RoundObject[]): Record<string, number[]> {
  const seconds: Record<string, number[]> = {};
  for (const round of rounds) {
    const times = round.status?.phaseTimes ?? [];
    for (const [i, { phase, at }] of times.entries()) {
      const next = times[i + 1];
      if (next === undefined) continue;
      const taken = (Date.parse(next.at) - Date.parse(at)) / 1000;
      seconds[phase] = [...(seconds[phase] ?? []), taken];
    }
  }
  return seconds;
}
