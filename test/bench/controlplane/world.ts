/**
 * The control plane's world: a real API server and registry, the operator's own process, and a crowd of participants in a few processes
 * (participant-process.ts) that are connected by mutual TLS. No agents, no pods: nobody trains.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { RawObject } from "../../../operator/kube/objects.ts";
import { FEDERATION_ROUNDS, FEDERATIONS } from "../../../operator/kube/resources.ts";
import { type ApiServer, startApiServer } from "../../integration/api-server.ts";
import { type Registry, startRegistry } from "../../integration/registry.ts";
import { MODEL, MODULES, pushInitial } from "../initial-adapter.ts";
import { ProcessGroup } from "../processes.ts";
import { bundle, eventually, OperatorProgram, type Place } from "../programs.ts";
import { authorityOf, type EnrolledSite, enrolSite } from "./enrol.ts";
import { Metrics } from "./scrape.ts";

export const FEDERATION = "bench";
/** 8 layers × 4 tensors × 8 × 1024 float32: 1 MiB. */
const SIZE = { rank: 8, features: 1024, layers: 8 };
const CROWD_PROCESSES = 2;
/** API calls of this benchmark's own at one time. */
const AT_ONCE = 16;

export type Privacy = "secure" | "trusted";

export interface World extends AsyncDisposable {
  api: ApiServer;
  registry: Registry;
  namespace: string;
  operator: OperatorProgram;
  processes: ProcessGroup;
}

/** @param folder  logs, volumes and configuration; the caller removes it */
export async function startWorld(folder: string, participants: number, privacy: Privacy): Promise<World> {
  bundle();
  mkdirSync(folder, { recursive: true });
  const undo = new AsyncDisposableStack();
  try {
    const registry = undo.use(await startRegistry());
    const api = await startApiServer();
    undo.defer(() => api.stop());
    await api.installCrds();
    const processes = new ProcessGroup((command) => (command.includes(" operator ") ? "operator" : "participants"));
    undo.defer(() => processes.end());
    const namespace = await api.createNamespace("coordinator");
    const place: Place = { folder, api, processes, namespace };
    const operator = await OperatorProgram.make(place);
    await operator.start();
    startCrowd(place, await enrolled(place, participants));
    const initial = await pushInitial(registry, folder, SIZE);
    await api.client.create(FEDERATIONS, federation(registry, { namespace, initial, privacy, participants }));
    await everybodyConnected(operator, participants);
    const dispose = undo.move();
    const asyncDispose = () => dispose.disposeAsync();
    return { api, registry, namespace, operator, processes, [Symbol.asyncDispose]: asyncDispose };
  } catch (error) {
    await undo.disposeAsync();
    throw error;
  }
}

export async function everybodyConnected(operator: OperatorProgram, participants: number): Promise<void> {
  await eventually(`${participants} participants connected`, 120, async () => {
    const metrics = await Metrics.of(operator.metricsUrl);
    return metrics.sum("rondo_agents_connected") === participants;
  });
}

export async function createRound({ api, namespace }: World, name: string): Promise<void> {
  await api.client.create(FEDERATION_ROUNDS, { metadata: { name, namespace }, spec: { federation: FEDERATION } });
}

export interface RoundObject extends RawObject {
  status?: {
    number?: number;
    phase?: string;
    contributions?: string;
    participants?: Array<{ name: string; state: string; reason?: string; message?: string; since: string }>;
    phaseTimes?: Array<{ phase: string; at: string }>;
  };
}

const LIMIT_S = 900;

/** @throws Error when it ends otherwise */
export async function succeeded({ api, namespace }: World, name: string, contributors: number): Promise<RoundObject> {
  let round: RoundObject | undefined;
  await eventually(`${name} has ended`, LIMIT_S, async () => {
    round = (await api.client.get(FEDERATION_ROUNDS, { namespace, name })) as RoundObject | undefined;
    return ["Succeeded", "Failed", "Cancelled"].includes(round?.status?.phase ?? "");
  });
  const { phase, contributions } = round!.status!;
  if (phase !== "Succeeded" || contributions !== `${contributors}/${contributors}`)
    throw new Error(`${name}: ${phase} with ${contributions}: ${JSON.stringify(round!.status).slice(0, 4000)}`);
  return round!;
}

/** Enrolled beforehand: the enrolment port lets some thirty a minute in from one address, and all of these have one. */
async function enrolled(place: Place, participants: number): Promise<EnrolledSite[]> {
  const authority = await authorityOf(place);
  const names = Array.from({ length: participants }, (_, i) => `site-${String(i + 1).padStart(3, "0")}`);
  return inTurns(names, (name) => enrolSite(place, authority, name));
}

function startCrowd({ folder, processes }: Place, all: EnrolledSite[]): void {
  const each = Math.ceil(all.length / CROWD_PROCESSES);
  for (let crowd = 0; crowd < CROWD_PROCESSES; crowd++) {
    const home = join(folder, `crowd-${crowd + 1}`);
    mkdirSync(home, { recursive: true });
    const file = join(home, "sites.json");
    writeFileSync(file, JSON.stringify(all.slice(crowd * each, (crowd + 1) * each)), { mode: 0o600 });
    const argv = [join(import.meta.dirname, "participant-process.ts"), file];
    processes.start(process.execPath, argv, { cwd: home, log: join(home, "log") });
  }
}

function federation(
  registry: Registry,
  over: { namespace: string; initial: string; privacy: Privacy; participants: number },
) {
  const { namespace, initial, privacy, participants } = over;
  const { rank } = SIZE;
  return {
    metadata: { name: FEDERATION, namespace },
    spec: {
      baseModel: MODEL,
      adapter: { rank, alpha: 2 * rank, targetModules: MODULES, initialFrom: { reference: initial } },
      training: { image: "registry.example/bench/trainer:1", steps: 1, resources: { gpus: 0 } },
      participants: { selector: { matchLabels: { bench: "yes" } }, minimum: participants },
      // So long that they play no part.
      deadlines: { accept: "1h", training: "1h", aggregation: "1h" },
      aggregation: { privacy, clipNorm: "1.0" },
      publish: { oci: { repository: `${registry.host}/bench/adapters`, plainHTTP: true } },
    },
  };
}

/** All of it, a few at a time; the results are in the order of the items. */
export async function inTurns<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results = new Array<R>(items.length);
  let next = 0;
  const worker = async () => {
    for (let i = next++; i < items.length; i = next++) results[i] = await work(items[i]!);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return results;
}
