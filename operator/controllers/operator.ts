/**
 * The operator's process: hands, controllers and servers put together, in the order in which they need each other, and taken apart again.
 * Holds: nothing is touched before the Lease is held; whoever loses it ends, and so does whoever cannot write its journal.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Logger } from "pino";
import { effect } from "../fault-injection.ts";
import { openJournal } from "../journal/open.ts";
import { openSpool } from "../journal/spool.ts";
import { WatchCache } from "../kube/cache.ts";
import { KubeClient } from "../kube/client.ts";
import { Controller, type Reconcile } from "../kube/controller.ts";
import type { CredentialSource } from "../kube/credentials.ts";
import { EventRecorder } from "../kube/events.ts";
import { cachesSynced, leaseHeld } from "../kube/health.ts";
import { Lease } from "../kube/lease.ts";
import { type KubeMetrics, kubeMetrics } from "../kube/metrics.ts";
import type { RawObject, ResourceKind } from "../kube/objects.ts";
import { ADAPTER_VERSIONS, FEDERATION_ROUNDS, FEDERATIONS, PARTICIPANTS, SERVICES } from "../kube/resources.ts";
import { Health } from "../telemetry/health.ts";
import { serveTelemetry } from "../telemetry/http.ts";
import { createRegistry } from "../telemetry/registry.ts";
import { startTaskServer, type TaskServer } from "../trainer/task-server.ts";
import { startEnrolment } from "../transport/enrolment.ts";
import { type CoordinationServer, startCoordination } from "../transport/server.ts";
import { openServerTls } from "../transport/server-tls.ts";
import { reconcileAdapterVersion } from "./adapter-version/reconcile.ts";
import { AdapterStore } from "./adapters.ts";
import { Attendance } from "./attendance.ts";
import type { OperatorConfig } from "./config.ts";
import type { Context } from "./context.ts";
import { OperatorCoordinator } from "./coordinator.ts";
import { Effects } from "./effects.ts";
import { OperatorEnrolmentOffice } from "./enrolment-office.ts";
import { InitialiseJobs } from "./federation/initialise-job.ts";
import { FederationReconciler } from "./federation/reconcile.ts";
import { leaseIdentity } from "./identity.ts";
import { openKeys, publishTrust } from "./keys.ts";
import { LeftOut } from "./left-out.ts";
import { operatorMetrics } from "./metrics.ts";
import { type Caches, keptRound, Objects } from "./objects.ts";
import { Outcomes } from "./outcomes.ts";
import { ParticipantReconciler } from "./participant/reconcile.ts";
import { RoundDesk } from "./round/desk.ts";
import { RoundReconciler } from "./round/reconcile.ts";
import { Workplace } from "./round/workplace.ts";
import { Storage } from "./storage.ts";
import { Tally } from "./tally.ts";
import { Versions } from "./versions.ts";
import { type Controllers, Wake } from "./wiring.ts";

export const LEASE = "rondo-operator";
const FIELD_MANAGER = "rondo-operator";

export interface OperatorOptions {
  config: OperatorConfig;
  version: string;
  credentials: CredentialSource;
  log: Logger;
  /** The process must end: what it knows may no longer be true. */
  onFatal: (why: string) => void;
  /** Ends the wait for the Lease. */
  signal?: AbortSignal;
}

export interface RunningOperator {
  /** The ports that were really bound. */
  ports: { agents: number; enrolment: number; metrics: number };
  /** Lets running reconciles end, tells agents to come back, releases the Lease. */
  stop(): Promise<void>;
}

/** Resolves when agents can connect. */
export async function startOperator(options: OperatorOptions): Promise<RunningOperator> {
  const { config, log, onFatal } = options;
  const stops: Array<() => unknown> = [];
  const stop = async () => {
    for (const end of stops.splice(0).reverse()) await end();
  };
  try {
    await mkdir(config.dataDir, { recursive: true, mode: 0o700 });
    effect("file", "make the data folder");
    const registry = createRegistry({ version: options.version, process: "operator" });
    const health = new Health();
    const metrics = kubeMetrics(registry);
    let isServing = false;
    health.addReady("servers", () => (isServing ? undefined : "agents cannot connect yet"));
    const telemetry = await serveTelemetry(config.metrics.address, { health, registry });
    stops.push(() => telemetry.close());
    const client = new KubeClient({
      credentials: options.credentials,
      fieldManager: FIELD_MANAGER,
      metrics: metrics.client,
    });
    stops.push(() => client.close());
    const lease = await holdLease(options, client, metrics, health);
    stops.push(() => lease.release());
    const storage = new Storage({
      folder: config.dataDir,
      reserveBytes: config.storage.reserve,
      log,
      now: Date.now,
    });
    const journal = await openJournal(join(config.dataDir, "journal.sqlite"), {
      onFull: (isFull) => storage.noteJournal(isFull),
    });
    stops.push(() => journal.close());
    await storage.start();
    stops.push(() => storage.stop());

    const caches = cachesOf(client, config.namespace, log, metrics);
    health.addReady("caches", cachesSynced(Object.values(caches)));
    for (const cache of Object.values(caches)) cache.start();
    stops.push(() => Promise.all(Object.values(caches).map((cache) => cache.stop())));
    const keys = await openKeys(client, config, Date.now());
    await publishTrust(client, config, keys);
    await Promise.all(Object.values(caches).map((cache) => cache.whenSynced()));

    const objects = new Objects(config.namespace, caches);
    const attendance = new Attendance(Date.now);
    const desk = new RoundDesk(journal, (error) => {
      log.fatal({ err: error }, "the journal cannot be written");
      onFatal("the journal cannot be written");
    });
    const context: Context = {
      config,
      client,
      caches,
      objects,
      journal,
      spool: await openSpool(join(config.dataDir, "spool")),
      storage,
      adapters: new AdapterStore(config.dataDir),
      versions: new Versions(journal, objects),
      leftOut: new LeftOut(journal),
      tally: new Tally(journal, objects),
      outcomes: new Outcomes(journal, objects),
      attendance,
      events: new EventRecorder({ client, log, controller: "rondo.dev/operator", instance: lease.identity }),
      metrics: operatorMetrics(registry, {
        openRounds: () => desk.open().length,
        connectedAgents: () => attendance.connected().size,
        freeBytes: () => storage.freeBytes,
      }),
      log,
      planKey: keys.planKey,
      now: Date.now,
    };
    stops.push(() => context.events.flush());
    await Promise.all([
      context.adapters.open(),
      context.versions.load(),
      context.leftOut.load(),
      context.tally.load(),
      desk.load(),
    ]);

    let coordination: CoordinationServer | undefined;
    let tasks: Promise<TaskServer> | undefined;
    stops.push(async () => (await tasks?.catch(() => undefined))?.stop());
    const controllers = () => built;
    const wake = new Wake(context, desk, controllers);
    const workplace = new Workplace(context, desk, (uid) => wake.roundWithUid(uid));
    stops.push(() => workplace.stop());
    const initialEffects = new Effects((key) => wakeFederationOf(context, wake, key), context.now);
    stops.push(() => initialEffects.stop());
    const coordinator = new OperatorCoordinator(context, workplace, {
      round: (name) => wake.round(name),
      participant: (name) => wake.participant(name),
    });
    const office = new OperatorEnrolmentOffice(
      context,
      (name) => coordinator.member(name),
      (name) => wake.participant(name),
    );
    await office.load();
    const jobs = new InitialiseJobs(
      context,
      () => {
        tasks ??= openTasks(context);
        tasks.catch(() => {
          tasks = undefined;
        });
        return tasks;
      },
      (name) => wake.federation(name),
    );
    const built: Controllers = controllersOf(options, metrics, {
      federation: reconcilerOf(
        new FederationReconciler({ context, effects: initialEffects, jobs }, desk, (name) => wake.roundsOf(name)),
      ),
      round: reconcilerOf(
        new RoundReconciler(context, workplace, (federation) => {
          wake.federation(federation);
          for (const record of desk.open()) if (record.federation === federation) wake.round(record.name);
        }),
      ),
      participant: reconcilerOf(new ParticipantReconciler(context, office, () => coordination)),
      adapterVersion: (name) => reconcileAdapterVersion(context, name),
    });

    storage.changed = () => {
      for (const record of desk.open()) wake.round(record.name);
    };
    const realm = { trustDomain: config.trustDomain, namespace: config.namespace };
    const hosts = [config.agents.endpoint, config.enrolment.endpoint].map(hostOf);
    const onError = (error: unknown, call?: string) => log.error({ err: error, call }, "a call failed");
    const tls = await openServerTls({ authority: keys.authority, trustDomain: config.trustDomain, hosts, onError });
    stops.push(() => tls.stop());
    stops.push(() => Promise.all(Object.values(built).map((controller) => controller.stop())));
    coordination = await startCoordination(
      { address: config.agents.address, realm, planKey: keys.planKey },
      { credentials: tls.mutual(), coordinator, spool: context.spool, journal, onError },
    );
    stops.push(() => coordination?.stop());
    const enrolment = await startEnrolment(
      { address: config.enrolment.address, realm },
      { credentials: tls.serverOnly(), authority: keys.authority, office, onError },
    );
    stops.push(() => enrolment.stop());
    // First of all: downloads and plans wait for it.
    stops.push(() => context.adapters.stop());
    for (const controller of Object.values(built)) controller.start();
    wake.connect();
    isServing = true;
    log.info({ agents: coordination.port, enrolment: enrolment.port }, "operator is ready");
    return { ports: { agents: coordination.port, enrolment: enrolment.port, metrics: telemetry.port }, stop };
  } catch (error) {
    await stop().catch((late: unknown) => log.error({ err: late }, "the operator could not stop in order"));
    throw error;
  }
}

async function holdLease(options: OperatorOptions, client: KubeClient, metrics: KubeMetrics, health: Health) {
  const { config, log, onFatal, signal } = options;
  const identity = await leaseIdentity(config.dataDir);
  const lease = new Lease({
    client,
    namespace: config.namespace,
    name: LEASE,
    identity,
    log,
    metrics,
    onLost: (why) => onFatal(`the Lease was lost: ${why}`),
  });
  health.addReady("lease", leaseHeld(lease, LEASE));
  await lease.acquire(signal);
  return Object.assign(lease, { identity });
}

function cachesOf(client: KubeClient, namespace: string, log: Logger, metrics: KubeMetrics): Caches {
  const options = { client, namespace, log, metrics };
  const cache = (kind: ResourceKind<RawObject>) => new WatchCache({ ...options, kind });
  return {
    federations: cache(FEDERATIONS),
    rounds: new WatchCache({ ...options, kind: FEDERATION_ROUNDS, keep: keptRound }),
    participants: cache(PARTICIPANTS),
    adapterVersions: cache(ADAPTER_VERSIONS),
  };
}

function reconcilerOf(reconciler: { reconcile(name: string): ReturnType<Reconcile> }): Reconcile {
  return (name) => reconciler.reconcile(name);
}

function controllersOf(
  { log }: OperatorOptions,
  metrics: KubeMetrics,
  reconciles: { [K in keyof Controllers]: Reconcile },
): Controllers {
  const controller = (name: keyof Controllers) => new Controller({ name, reconcile: reconciles[name], log, metrics });
  return {
    federation: controller("federation"),
    round: controller("round"),
    participant: controller("participant"),
    adapterVersion: controller("adapterVersion"),
  };
}

/** Keys of initial work are "<uid> <generation>". */
function wakeFederationOf(context: Context, wake: Wake, key: string): void {
  const uid = key.split(" ")[0];
  const found = context.caches.federations.list((raw) => raw.metadata.uid === uid)[0];
  if (found) wake.federation(found.metadata.name);
}

async function openTasks(context: Context): Promise<TaskServer> {
  const { namespace, tasks, dataDir } = context.config;
  const service = await context.client.get(SERVICES, { namespace, name: tasks.service });
  const clusterIp = service?.spec?.clusterIP;
  const hosts = [`${tasks.service}.${namespace}.svc`, ...(clusterIp ? [clusterIp] : [])];
  return startTaskServer({ dataDir: join(dataDir, "tasks"), address: tasks.address, hosts, log: context.log });
}

function hostOf(endpoint: string): string {
  return endpoint.slice(0, endpoint.lastIndexOf(":")).replace(/^\[|\]$/g, "");
}
