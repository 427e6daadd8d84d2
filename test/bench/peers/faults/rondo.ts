/**
 * The faults with Rondo: operator and five agents as processes of the image's bundle, real API server, registry and gRPC, secure aggregation as
 * it is by default, `minimum: 4`, and deadlines short enough to wait for.
 */
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { countNonFinite } from "../../../../operator/aggregation/finite.ts";
import type { AdapterVersion } from "../../../../operator/api/adapter-version.ts";
import type { FederationRound } from "../../../../operator/api/federation-round.ts";
import { ADAPTER_VERSIONS, FEDERATION_ROUNDS, FEDERATIONS, PARTICIPANTS } from "../../../../operator/kube/resources.ts";
import { OciRepository } from "../../../../operator/publish/oci.ts";
import { pullAdapter } from "../../../../operator/publish/pull-adapter.ts";
import { parseReference } from "../../../../operator/publish/reference.ts";
import { parseHeader } from "../../../../operator/publish/safetensors-header.ts";
import { type ApiServer, startApiServer } from "../../../integration/api-server.ts";
import { startRegistry } from "../../../integration/registry.ts";
import { IMAGE } from "../../federation.ts";
import { MODEL, MODULES, pushInitial } from "../../initial-adapter.ts";
import { ProcessGroup } from "../../processes.ts";
import { bundle, eventually, OperatorProgram, type Place } from "../../programs.ts";
import { cut } from "./cut.ts";
import { RondoSite } from "./rondo-site.ts";
import { FAULT_ROUND, FAULTS, type Fault, type FaultRun, inflict, MINIMUM, ROUNDS, SITES } from "./scenario.ts";

const FEDERATION = "faults";
const SIZE = { rank: 4, features: 1024, layers: 4 };
const WATCH_MS = 300_000;

export async function faultWithRondo(fault: Fault, folder: string): Promise<FaultRun> {
  bundle();
  const marks = join(folder, "marks");
  await mkdir(marks, { recursive: true });
  await using undo = new AsyncDisposableStack();
  const registry = undo.use(await startRegistry());
  const api = await startApiServer({ controllerManager: true });
  undo.defer(() => api.stop());
  await api.installCrds();
  const processes = new ProcessGroup((command) => (command.includes(" operator ") ? "server" : "client"));
  undo.defer(() => processes.end());
  const namespace = await api.createNamespace("coordinator");
  const place: Place = { folder, api, processes, namespace };
  const operator = await OperatorProgram.make(place);
  await operator.start();
  const sites: RondoSite[] = [];
  for (let number = 1; number <= SITES; number++) {
    const site = await RondoSite.make({ place, number, fault, marks });
    undo.defer(() => site.stop());
    sites.push(site);
  }
  await eventually("all participants connected", 60, async () => {
    const { items } = await api.client.list(PARTICIPANTS, { namespace });
    return items.every((item) => (item as { status?: { connected?: boolean } }).status?.connected === true);
  });
  const initial = await pushInitial(registry, folder, SIZE);
  await api.client.create(FEDERATIONS, manifest(namespace, registry.host, initial));
  const atMs = await inflict(fault, {
    marks,
    killSite: () => sites[0]!.kill(),
    startSite: () => sites[0]!.startAgain(),
    killServer: () => process.kill(operator.pid, "SIGKILL"),
    startServer: () => operator.start(),
    cutServer: () => cut({ port: operator.agentsPort }),
  });
  let rounds = await roundsOf(api, namespace);
  for (; Date.now() < atMs + WATCH_MS && !hasEnded(rounds); rounds = await roundsOf(api, namespace)) await sleep(1000);
  const watchedSeconds = Math.round((Date.now() - atMs) / 1000);
  const done = rounds.filter(({ status }) => status?.phase === "Succeeded").length;
  const hit = rounds.find(({ status }) => status?.number === FAULT_ROUND);
  const nonFinite = await nonFiniteValues(api, namespace, folder);
  return {
    system: "Rondo",
    fault: FAULTS[fault],
    outcome: rounds.map(({ metadata, status }) => `${metadata.name} ${status?.phase}`).join(", "),
    roundsDone: done,
    ...secondsOf(hit),
    ...(hit?.status?.contributions && { counted: Number(hit.status.contributions.split("/")[0]) }),
    ...(nonFinite !== undefined && { nonFinite }),
    watchedSeconds,
    seen: seenIn(hit),
  };
}

function manifest(namespace: string, registry: string, initial: string) {
  return {
    metadata: { name: FEDERATION, namespace },
    spec: {
      baseModel: MODEL,
      adapter: { rank: SIZE.rank, alpha: 2 * SIZE.rank, targetModules: MODULES, initialFrom: { reference: initial } },
      training: { image: IMAGE, task: "instruction", steps: 1, resources: { gpus: 0, memory: "64Mi", cpu: "1" } },
      participants: { selector: { matchLabels: { bench: "yes" } }, minimum: MINIMUM },
      deadlines: { accept: "1m", training: "2m", aggregation: "1m" },
      publish: { oci: { repository: `${registry}/faults/adapters`, plainHTTP: true } },
      rounds: { count: ROUNDS },
    },
  };
}

async function roundsOf(api: ApiServer, namespace: string): Promise<FederationRound[]> {
  const { items } = await api.client.list(FEDERATION_ROUNDS, { namespace });
  return (items as FederationRound[]).sort((a, b) => a.metadata.name.localeCompare(b.metadata.name));
}

/** All have run, or nothing follows a round that failed for good. */
function hasEnded(rounds: FederationRound[]): boolean {
  const ended = rounds.filter(({ status }) => ["Succeeded", "Failed", "Cancelled"].includes(status?.phase ?? ""));
  return ended.length === ROUNDS;
}

function secondsOf(round: FederationRound | undefined): { roundSeconds?: number } {
  const times = (round?.status?.phaseTimes ?? []).map(({ at }) => Date.parse(at) / 1000);
  const isOver = ["Succeeded", "Failed", "Cancelled"].includes(round?.status?.phase ?? "");
  return isOver ? { roundSeconds: Math.round(Math.max(...times) - Math.min(...times)) } : {};
}

/** What `kubectl describe fr` shows of whoever did not contribute, and of the outcome. */
function seenIn(round: FederationRound | undefined): string[] {
  const rows = (round?.status?.participants ?? []).filter(({ message }) => message);
  const outcome = round?.status?.conditions?.find(({ type }) => type === "Succeeded");
  return [
    ...rows.map(({ name, state, reason, message }) => `${name} ${state} ${reason}: ${message}`),
    `Succeeded=${outcome?.status} ${outcome?.reason}: ${outcome?.message}`,
  ];
}

async function nonFiniteValues(api: ApiServer, namespace: string, folder: string): Promise<number | undefined> {
  const { items } = await api.client.list(ADAPTER_VERSIONS, { namespace });
  const last = (items as AdapterVersion[]).sort((a, b) => a.spec.version - b.spec.version).at(-1);
  if (last === undefined) return undefined;
  const { registry, repository } = parseReference(last.spec.reference);
  const oci = new OciRepository({ registry, repository, plainHttp: true });
  const { weightsFile } = await pullAdapter(oci, last.spec.digest, join(folder, "last"), 1 << 30);
  const file = await readFile(weightsFile);
  const { dataStart } = parseHeader(file.subarray(8, 8 + Number(file.readBigUInt64LE(0))), file.length);
  return countNonFinite(new Float32Array(Uint8Array.from(file.subarray(dataStart)).buffer));
}
