/**
 * The agent as one running thing (`rondo agent --config agent.yaml`): builds everything from the site's configuration, starts it in order, and
 * stops it in the reverse order.
 * Holds: nothing is worked on without the Lease, and the process ends when it is lost; a stop leaves every round where the next start finds it.
 * Does not: read the environment or handle signals (cli/agent.ts).
 */
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Logger } from "pino";
import { effect } from "../fault-injection.ts";
import { openJournal } from "../journal/open.ts";
import { KubeClient } from "../kube/client.ts";
import type { CredentialSource } from "../kube/credentials.ts";
import { EventRecorder } from "../kube/events.ts";
import { cachesSynced, leaseHeld } from "../kube/health.ts";
import { Lease } from "../kube/lease.ts";
import { kubeMetrics } from "../kube/metrics.ts";
import { SERVICES, type Service } from "../kube/resources.ts";
import { Health } from "../telemetry/health.ts";
import { serveTelemetry } from "../telemetry/http.ts";
import { createRegistry } from "../telemetry/registry.ts";
import { startTaskServer } from "../trainer/task-server.ts";
import { CoordinatorClient } from "../transport/client.ts";
import { fileCredentialStore } from "../transport/credential.ts";
import type { TransportCode } from "../transport/faults.ts";
import { type Invitation, invitationSchema } from "../transport/invitation.ts";
import { Agent } from "./agent.ts";
import type { AgentConfig } from "./config.ts";
import { Evaluator } from "./evaluation.ts";
import { loadIdentity, signer } from "./identity.ts";
import { ClusterJobs } from "./jobs.ts";
import { Ledger } from "./ledger.ts";
import { removeLeftovers } from "./leftovers.ts";
import { adminSocket, serveLocal } from "./local.ts";
import { makeMaskedVector } from "./masking.ts";
import { agentMetrics } from "./metrics.ts";
import { ClientLink } from "./operator-link.ts";
import { roundResults } from "./results.ts";
import { acceptKey, rosterView } from "./roster.ts";
import { MaskedRounds } from "./secagg/masked-rounds.ts";
import { ClusterEvents } from "./site-events.ts";
import { Start } from "./start.ts";
import { AgentStorage, STORAGE_FULL_AT_SITE } from "./storage.ts";
import { fingerprintOf } from "./trust.ts";

/** A Job that is made after its assignment has ended, by a call whose answer was lost, is gone within the minute. */
const SWEEP_MS = 20_000;

/** What an operator that has this Participant no more, or not for now, answers whoever proves to be it. */
const REVOKED = new Set<TransportCode>(["Suspended", "ParticipantUnknown"]);

export interface RunningAgent {
  /** For tests: where the task API listens. */
  tasksPort: number;
  metricsPort: number;
  adminSocket: string;
  /** Graceful: what is under way goes on at the next start. */
  stop(): Promise<void>;
}

export interface AgentParts {
  credentials: CredentialSource;
  /** Pod name and uid: who holds the Lease. */
  instance: string;
  /** Ends the start, whatever it waits for: the Lease, the API server, room for the ledger. */
  signal?: AbortSignal;
  version: string;
  log: Logger;
  /** The Lease was lost: the process must end. */
  onLost(why: string): void;
  reconnect?: { firstMs: number; mostMs: number };
}

/** @throws the signal's reason, with everything closed again that was open */
export async function startAgent(config: AgentConfig, parts: AgentParts): Promise<RunningAgent> {
  const start = new Start(parts.signal);
  try {
    return await start.unlessStopped(startParts(config, parts, start));
  } catch (error) {
    await start.undo();
    throw error;
  }
}

async function startParts(config: AgentConfig, parts: AgentParts, start: Start): Promise<RunningAgent> {
  const { log, version } = parts;
  const { namespace, dataDir } = config;
  const registry = createRegistry({ version, process: "agent" });
  const health = new Health();
  const telemetry = await serveTelemetry(config.metrics.address, { health, registry });
  await start.opened(() => telemetry.close());
  let isUp = false;
  health.addReady("start", () => (isUp ? undefined : "still starting"));

  await mkdir(join(dataDir, "work"), { recursive: true, mode: 0o700 });
  effect("file", "make the work folder");
  const invitation = await readInvitation(config.invitation);
  const metrics = kubeMetrics(registry);
  const kube = new KubeClient({ credentials: parts.credentials, fieldManager: "rondo-agent", metrics: metrics.client });
  const lease = new Lease({
    client: kube,
    namespace,
    name: "rondo-agent",
    identity: parts.instance,
    onLost: parts.onLost,
    log,
    metrics,
  });
  health.addReady("lease", leaseHeld(lease, "rondo-agent"));
  await start.opened(async () => kube.close());
  await lease.acquire(parts.signal);
  await start.opened(() => lease.release());

  const identity = await loadIdentity(
    kube,
    { namespace, name: config.identitySecret },
    { "app.kubernetes.io/part-of": "rondo" },
  );
  const service = await taskService(kube, namespace, config.tasks.service);
  const recorder = new EventRecorder({ client: kube, log, controller: "rondo.dev/agent", instance: parts.instance });
  const events = new ClusterEvents({ recorder, namespace, service: service.owner });
  const storage = new AgentStorage({ folder: dataDir, log });
  storage.changed = () => tellOfStorage(storage, events);
  await storage.start();
  await start.opened(async () => storage.stop());
  const journal = await openJournal(join(dataDir, "ledger.db"), { onFull: (isFull) => storage.noteLedger(isFull) });
  await start.opened(() => journal.close());
  const ledger = new Ledger(journal);
  health.addLive("ledger", () => ledger.broken);
  const tasks = await startTaskServer({
    dataDir: join(dataDir, "tasks"),
    address: config.tasks.address,
    hosts: [
      service.ip,
      config.tasks.service,
      `${config.tasks.service}.${namespace}.svc`,
      ...listeningHost(config.tasks.address),
    ],
    log,
    storage,
  });
  await start.opened(() => tasks.stop());
  const jobs = new ClusterJobs({
    client: kube,
    namespace,
    participant: invitation.participant,
    owner: service.owner,
    recorder,
    log,
    metrics,
  });
  health.addReady("caches", cachesSynced(jobs.caches));
  await start.opened(() => jobs.stop());
  await jobs.start();
  start.throwIfStopped();

  const ownMetrics = agentMetrics(registry);
  const client = new CoordinatorClient(
    { invitation, identity: identity.privateKey, ...(parts.reconnect ? { reconnect: parts.reconnect } : {}) },
    {
      store: fileCredentialStore(join(dataDir, "certificate.json")),
      introduce: async () => ({
        agentVersion: version,
        capacity: { gpus: config.policy.gpus.max, gpuResourceName: config.gpuResourceName },
        open: agent.openWork(),
      }),
      handlers: {
        plan: (signed, clockSkewMs) => agent.onPlan(signed, clockSkewMs),
        cancelled: (cancellation) => agent.onCancelled(cancellation),
        step: (step) => agent.onStep(step),
        draw: (step) => agent.onDraw(step),
        connected() {
          log.info({ endpoint: invitation.endpoint }, "connected to the operator");
          ownMetrics.connected(true);
          agent.onConnected();
        },
        disconnected(reason, code) {
          log.warn({ endpoint: invitation.endpoint, code, reason }, "not connected to the operator, trying again");
          ownMetrics.connected(false);
          // A trainer would hold its GPUs until its deadline for rounds that have left this site out.
          if (REVOKED.has(code)) agent.onRevoked(reason);
        },
      },
    },
  );
  const link = new ClientLink(client);
  const maskedRounds = await MaskedRounds.load(kube, { namespace, name: config.identitySecret });
  const shared = {
    ledger,
    link,
    jobs,
    tasks,
    taskUrl: service.url,
    workDir: join(dataDir, "work"),
    podTemplate: config.podTemplate,
    storage,
    log,
  };
  const agent: Agent = new Agent({
    ...shared,
    shareTrainerErrors: config.policy.shareTrainerErrors,
    recordBudget: config.policy.recordPrivacy,
    secure: {
      maskedRounds,
      mask: makeMaskedVector,
      sign: signer(identity.privateKey),
      releasesPerParent: config.policy.releasesPerParent,
      events,
    },
    metrics: ownMetrics,
    invitation,
    identity: identity.publicKey,
    policy: config.policy,
  });
  const evaluator = new Evaluator({ ...shared, participant: invitation.participant, policy: config.policy });
  jobs.onChange((name) => agent.onJobChanged(name));
  await start.opened(() => agent.stop());
  const living = (await ledger.assignments()).filter(({ cleaned }) => !cleaned).map(({ job }) => job);
  const leftovers = await removeLeftovers(shared.workDir, new Set(living));
  if (leftovers.length > 0) log.info({ leftovers }, "removed files that belong to no round");
  await agent.resume();
  storage.changed = () => {
    tellOfStorage(storage, events);
    agent.onStorageChanged();
  };
  const sweep = async () => {
    const swept = await jobs.sweep(new Set([...agent.jobNames, ...evaluator.jobNames]));
    if (swept.length > 0) log.warn({ jobs: swept }, "deleted Jobs that belong to no round");
  };
  const sweepOrLater = () => sweep().catch((error: unknown) => log.warn({ err: error }, "sweep failed"));
  await sweepOrLater();
  const sweeping = setInterval(() => void sweepOrLater(), SWEEP_MS);
  sweeping.unref();

  const socket = adminSocket(dataDir);
  const own = { participant: invitation.participant, identity: identity.publicKey };
  const local = await serveLocal(socket, {
    status: () => ({
      ...own,
      connected: client.isConnected,
      fingerprint: fingerprintOf(identity.publicKey),
      open: agent.status(),
    }),
    results: () => roundResults(ledger),
    roster: () => rosterView(ledger.pins, { ...own, trust: config.policy.trust }),
    acceptKey: (request) => acceptKey(ledger.pins, config.policy.trust, request, Date.now()),
    evaluate: (request) => evaluator.evaluate(request),
  });
  client.start();
  isUp = true;

  return {
    tasksPort: tasks.port,
    metricsPort: telemetry.port,
    adminSocket: socket,
    async stop() {
      clearInterval(sweeping);
      storage.stop();
      await local.close();
      // Who waits for room would wait for ever: what is not written is not done, and the next start does it.
      if (storage.isLedgerFull) await journal.close();
      const working = Promise.all([agent.stop(), evaluator.stop()]);
      await client.stop();
      await working;
      await tasks.stop();
      await jobs.stop();
      await journal.close();
      await recorder.flush();
      await lease.release();
      kube.close();
      await telemetry.close();
    },
  };
}

function tellOfStorage({ problem }: AgentStorage, events: ClusterEvents): void {
  if (problem) events.warn(undefined, problem.reason, STORAGE_FULL_AT_SITE);
}

async function readInvitation(path: string): Promise<Invitation> {
  const parsed = invitationSchema.safeParse(JSON.parse(await readFile(path, "utf8")));
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw new Error(`invitation ${path}: ${issue?.path.join(".")}: ${issue?.message}; ask the coordinator for a new one`);
}

/** Named too where it is one address: whoever listens on that alone is dialled there. */
function listeningHost(address: string): string[] {
  const host = address.slice(0, address.lastIndexOf(":")).replace(/^\[|\]$/g, "");
  return host === "0.0.0.0" || host === "::" ? [] : [host];
}

/** Trainers have no DNS: they are given the Service's cluster IP, and the certificate names it. */
async function taskService(kube: KubeClient, namespace: string, name: string) {
  const service: Service | undefined = await kube.get(SERVICES, { namespace, name });
  const ip = service?.spec?.clusterIP;
  const port = service?.spec?.ports?.[0]?.port;
  if (!service?.metadata.uid || !ip || ip === "None" || !port) {
    throw new Error(
      `Service ${namespace}/${name} with a cluster IP and a port is needed: trainers fetch their tasks through it`,
    );
  }
  const url = `https://${ip.includes(":") ? `[${ip}]` : ip}:${port}`;
  return { ip, url, owner: { apiVersion: "v1", kind: "Service", name, uid: service.metadata.uid } };
}
