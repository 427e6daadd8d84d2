import { pino } from "pino";
import { Registry } from "prom-client";
import { afterEach, expect, test } from "vitest";
import { again, Controller, type ControllerOptions, DONE } from "./controller.ts";
import { KubeFault } from "./faults.ts";
import { kubeMetrics } from "./metrics.ts";

const log = pino({ level: "silent" });
const running: Controller[] = [];

function start(options: Pick<ControllerOptions, "reconcile"> & Partial<ControllerOptions>): Controller {
  const controller = new Controller({ name: "test", log, baseDelayMs: 10, maxDelayMs: 40, ...options });
  controller.start();
  running.push(controller);
  return controller;
}

afterEach(async () => {
  await Promise.all(running.splice(0).map((controller) => controller.stop(100)));
});

const until = async (isTrue: () => boolean) => {
  for (let i = 0; !isTrue(); i++) {
    if (i > 500) throw new Error("it did not happen within 5 s");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
};

test("a key that throws is reconciled again until it succeeds, and counted", async () => {
  const registry = new Registry();
  let calls = 0;
  const reconcile = async () => {
    if (++calls < 3) throw new Error("not yet");
    return DONE;
  };
  start({ reconcile, metrics: kubeMetrics(registry) }).enqueue("a");
  await until(() => calls === 3);
  const text = await registry.metrics();
  expect(text).toContain('controller_runtime_reconcile_total{controller="test",result="error"} 2');
  expect(text).toContain('controller_runtime_reconcile_errors_total{controller="test"} 2');
  expect(text).toContain('workqueue_retries_total{name="test"} 2');
});

test("a conflict is tried again and is no error", async () => {
  const registry = new Registry();
  let calls = 0;
  const reconcile = async () => {
    if (++calls === 1) throw new KubeFault("Conflict", "stale");
    return DONE;
  };
  start({ reconcile, metrics: kubeMetrics(registry) }).enqueue("a");
  await until(() => calls === 2);
  const text = await registry.metrics();
  expect(text).toContain('controller_runtime_reconcile_total{controller="test",result="conflict"} 1');
  expect(text).not.toContain('controller_runtime_reconcile_errors_total{controller="test"}');
});

test("again(ms) looks again then, without backoff", async () => {
  const times: number[] = [];
  const reconcile = async () => {
    times.push(performance.now());
    return times.length < 4 ? again(20) : DONE;
  };
  start({ reconcile }).enqueue("a");
  await until(() => times.length === 4);
  expect(times[3]! - times[0]!).toBeGreaterThanOrEqual(55);
});

test("one key is never reconciled twice at a time, several keys are", async () => {
  let active = 0;
  let most = 0;
  const perKey = new Map<string, number>();
  const reconcile = async (key: string) => {
    most = Math.max(most, ++active);
    perKey.set(key, (perKey.get(key) ?? 0) + 1);
    expect(perKey.get(key)).toBe(1);
    await new Promise((resolve) => setTimeout(resolve, 5));
    perKey.set(key, 0);
    active--;
    return DONE;
  };
  const controller = start({ reconcile, workers: 3 });
  for (let i = 0; i < 60; i++) {
    controller.enqueue(`k${i % 4}`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await until(() => active === 0);
  expect(most).toBe(3);
});

test("a reconcile that outruns its time is told so", async () => {
  let why: unknown;
  const reconcile = (_key: string, signal: AbortSignal) =>
    new Promise<typeof DONE>((resolve) => {
      signal.addEventListener("abort", () => {
        why = signal.reason;
        resolve(DONE);
      });
    });
  start({ reconcile, timeoutMs: 20 }).enqueue("a");
  await until(() => why !== undefined);
  expect(String(why)).toContain("not within 20 ms");
});

test("stop waits for what runs, and aborts it after its grace", async () => {
  let wasAborted = false;
  const reconcile = (_key: string, signal: AbortSignal) =>
    new Promise<typeof DONE>((resolve) => {
      signal.addEventListener("abort", () => {
        wasAborted = true;
        resolve(DONE);
      });
    });
  const controller = start({ reconcile });
  controller.enqueue("a");
  await new Promise((resolve) => setTimeout(resolve, 20));
  await controller.stop(50);
  expect(wasAborted).toBe(true);
});
