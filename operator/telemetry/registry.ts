/**
 * The process's metrics registry. Metrics themselves live beside their subject and are given this registry.
 * Own instead of prom-client's global one: tests run several programs in one process.
 */
import { collectDefaultMetrics, Gauge, Registry } from "prom-client";

/** @param build  what rondo_build_info says about the program */
export function createRegistry(build: { version: string; process: string }): Registry {
  const registry = new Registry();
  // Process, heap, garbage collector and event loop lag (nodejs_eventloop_lag_*).
  collectDefaultMetrics({ register: registry });
  new Gauge({
    name: "rondo_build_info",
    help: "1, with the version of the running program",
    labelNames: ["version", "process"],
    registers: [registry],
  }).set(build, 1);
  return registry;
}
