/**
 * Metrics of the kube runtime, under the names controller-runtime made usual, so that existing dashboards fit.
 * Holds: labels from closed sets; one instance per registry.
 */
import { Counter, Gauge, Histogram, type Registry } from "prom-client";

const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

export type ClientMetrics = {
  answered(method: string, code: string, seconds: number): void;
  retried(method: string): void;
};

export type CacheEvent = "relist" | "reconnect" | "gone" | "silence" | "handlerFault" | "missed";

export type CacheMetrics = {
  happened(kind: string, event: CacheEvent): void;
  size(kind: string, objects: number): void;
};

export type QueueMetrics = {
  depth(name: string, keys: number): void;
  added(name: string): void;
  retried(name: string): void;
  waited(name: string, seconds: number): void;
  worked(name: string, seconds: number): void;
};

export type ReconcileResult = "success" | "requeue_after" | "error" | "conflict";

export type ControllerMetrics = {
  reconciled(controller: string, result: ReconcileResult, seconds: number): void;
  timedOut(controller: string): void;
  active(controller: string, workers: number): void;
};

export type LeaseMetrics = { isMaster(name: string, is: boolean): void };

export type KubeMetrics = {
  client: ClientMetrics;
  cache: CacheMetrics;
  queue: QueueMetrics;
  controller: ControllerMetrics;
  lease: LeaseMetrics;
};

export function kubeMetrics(registry: Registry): KubeMetrics {
  const registers = [registry];
  return {
    client: clientMetrics(registers),
    cache: cacheMetrics(registers),
    queue: queueMetrics(registers),
    controller: controllerMetrics(registers),
    lease: leaseMetrics(registers),
  };
}

function clientMetrics(registers: Registry[]): ClientMetrics {
  const requests = new Counter({
    name: "rest_client_requests_total",
    help: "Answers of the API server by status code; code is error where there was none",
    labelNames: ["code", "method"],
    registers,
  });
  const seconds = new Histogram({
    name: "rest_client_request_duration_seconds",
    help: "Time until the answer of the API server was read",
    labelNames: ["verb"],
    buckets: SECONDS,
    registers,
  });
  const retries = new Counter({
    name: "rest_client_request_retries_total",
    help: "Calls to the API server sent again",
    labelNames: ["verb"],
    registers,
  });
  return {
    answered(method, code, elapsed) {
      requests.inc({ method, code });
      seconds.observe({ verb: method }, elapsed);
    },
    retried: (method) => retries.inc({ verb: method }),
  };
}

function cacheMetrics(registers: Registry[]): CacheMetrics {
  const events = new Counter({
    name: "rondo_kube_cache_events_total",
    help: "What happened to watch caches: relist, reconnect, gone (410), silence, missed (a relist found what the watch had not told), handlerFault",
    labelNames: ["kind", "event"],
    registers,
  });
  const objects = new Gauge({
    name: "rondo_kube_cache_objects",
    help: "Objects in a watch cache",
    labelNames: ["kind"],
    registers,
  });
  return {
    happened: (kind, event) => events.inc({ kind, event }),
    size: (kind, count) => objects.set({ kind }, count),
  };
}

function queueMetrics(registers: Registry[]): QueueMetrics {
  const labelNames = ["name"];
  const depth = new Gauge({ name: "workqueue_depth", help: "Keys waiting", labelNames, registers });
  const adds = new Counter({ name: "workqueue_adds_total", help: "Keys added", labelNames, registers });
  const retries = new Counter({ name: "workqueue_retries_total", help: "Keys added again", labelNames, registers });
  const waited = new Histogram({
    name: "workqueue_queue_duration_seconds",
    help: "Time a key waits before it is worked on",
    labelNames,
    buckets: SECONDS,
    registers,
  });
  const worked = new Histogram({
    name: "workqueue_work_duration_seconds",
    help: "Time a key is worked on",
    labelNames,
    buckets: SECONDS,
    registers,
  });
  return {
    depth: (name, keys) => depth.set({ name }, keys),
    added: (name) => adds.inc({ name }),
    retried: (name) => retries.inc({ name }),
    waited: (name, seconds) => waited.observe({ name }, seconds),
    worked: (name, seconds) => worked.observe({ name }, seconds),
  };
}

function controllerMetrics(registers: Registry[]): ControllerMetrics {
  const total = new Counter({
    name: "controller_runtime_reconcile_total",
    help: "Reconciles by result; a conflict is a stale read, not an error",
    labelNames: ["controller", "result"],
    registers,
  });
  const errors = new Counter({
    name: "controller_runtime_reconcile_errors_total",
    help: "Reconciles that threw",
    labelNames: ["controller"],
    registers,
  });
  const timeouts = new Counter({
    name: "controller_runtime_reconcile_timeouts_total",
    help: "Reconciles that outran their time",
    labelNames: ["controller"],
    registers,
  });
  const seconds = new Histogram({
    name: "controller_runtime_reconcile_time_seconds",
    help: "Time of one reconcile",
    labelNames: ["controller"],
    buckets: SECONDS,
    registers,
  });
  const active = new Gauge({
    name: "controller_runtime_active_workers",
    help: "Reconciles running now",
    labelNames: ["controller"],
    registers,
  });
  return {
    reconciled(controller, result, elapsed) {
      total.inc({ controller, result });
      if (result === "error") errors.inc({ controller });
      seconds.observe({ controller }, elapsed);
    },
    timedOut: (controller) => timeouts.inc({ controller }),
    active: (controller, workers) => active.set({ controller }, workers),
  };
}

function leaseMetrics(registers: Registry[]): LeaseMetrics {
  const master = new Gauge({
    name: "leader_election_master_status",
    help: "1 while this process holds the Lease",
    labelNames: ["name"],
    registers,
  });
  return { isMaster: (name, is) => master.set({ name }, is ? 1 : 0) };
}
