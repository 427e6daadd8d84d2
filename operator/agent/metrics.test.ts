import { Registry } from "prom-client";
import { expect, test } from "vitest";
import { agentMetrics } from "./metrics.ts";

test("a running trainer has series of its own, which go when it has handed its adapter back", async () => {
  const registry = new Registry();
  const metrics = agentMetrics(registry);
  metrics.training("clinic-notes-r1-a-1", { step: 12, steps: 20, loss: 2.31, tokensPerSecond: 1240 });
  const shown = await registry.metrics();
  expect(shown).toContain('rondo_agent_trainer_step{job="clinic-notes-r1-a-1"} 12');
  expect(shown).toContain('rondo_agent_trainer_steps{job="clinic-notes-r1-a-1"} 20');
  expect(shown).toContain('rondo_agent_trainer_loss_nats{job="clinic-notes-r1-a-1"} 2.31');
  expect(shown).toContain('rondo_agent_trainer_tokens_per_second{job="clinic-notes-r1-a-1"} 1240');
  metrics.trained("clinic-notes-r1-a-1");
  expect(await registry.metrics()).not.toContain("clinic-notes-r1-a-1");
});

test("a trainer that tells no loss has none in the metrics", async () => {
  const registry = new Registry();
  agentMetrics(registry).training("job", { step: 1, steps: 2, loss: null });
  expect(await registry.metrics()).not.toContain('loss_nats{job="job"}');
});
