/** What people do in the middle of a round: cancel it, delete it, suspend or remove who takes part. */
import { expect } from "vitest";
import { FEDERATION_ROUNDS, FEDERATIONS, PARTICIPANTS } from "../../../../operator/kube/resources.ts";
import { NAMESPACE } from "../../../demo/install.ts";
import { isReady } from "../../failures/crashes.ts";
import { outcome, roundThat, startRound, terminal } from "../../failures/rounds.ts";
import type { Arena } from "../arena.ts";
import { type Expected, each, type Fault, succeeds, without } from "../fault.ts";
import { MOMENTS, type RoundAt } from "../moments.ts";
import { podsAre, scale } from "../workloads.ts";

const deleted: Expected = { phase: "Deleted" };

const deleteAll = ({ under }: Arena, rounds: readonly RoundAt[]) =>
  Promise.all(rounds.map(({ name }) => under.kube.delete(FEDERATION_ROUNDS, { namespace: NAMESPACE, name }))).then(
    () => undefined,
  );

const suspend = (arena: Arena, name: string, suspended: boolean) =>
  arena.under.kube
    .patchMerge(PARTICIPANTS, { namespace: NAMESPACE, name }, { spec: { suspended } } as never)
    .then(() => undefined);

const suspendFederations = ({ under }: Arena, rounds: readonly RoundAt[], isSuspended: boolean) =>
  Promise.all(
    rounds.map(({ federation: name }) =>
      under.kube.patchMerge(FEDERATIONS, { namespace: NAMESPACE, name }, { spec: { suspend: isSuspended } } as never),
    ),
  ).then(() => undefined);

export const people: readonly Fault[] = [
  {
    name: "round cancelled",
    slug: "cancel",
    quick: true,
    at: each(MOMENTS, { phase: "Cancelled" }),
    async strike({ under }, rounds) {
      for (const { name } of rounds)
        await under.kube.patchMerge(FEDERATION_ROUNDS, { namespace: NAMESPACE, name }, {
          spec: { cancel: true },
        } as never);
    },
  },
  {
    name: "federation suspended: what runs is finished, what comes next waits",
    slug: "fed-susp",
    at: each(MOMENTS, succeeds),
    strike: (arena, rounds) => suspendFederations(arena, rounds, true),
    async also(arena, rounds) {
      const { under } = arena;
      const [{ name, federation }] = rounds as [RoundAt];
      const next = `${name}-next`;
      await startRound(under, next, { federation });
      const waiting = await roundThat(under, next, "told why it waits", ({ status }) =>
        (status.conditions ?? []).some(({ reason }) => reason === "Suspended"),
      );
      expect(waiting.status.phase).toBe("Pending");
      await suspendFederations(arena, rounds, false);
      expect(outcome(await terminal(under, next))).toMatchObject({ phase: "Succeeded" });
    },
    restore: (arena) =>
      suspendFederations(
        arena,
        MOMENTS.map((moment) => ({ moment, name: "", federation: moment })),
        false,
      ),
  },
  { name: "round deleted", slug: "del", quick: true, at: each(MOMENTS, deleted), strike: deleteAll },
  {
    name: "round deleted while the operator is down",
    slug: "del-down",
    at: each(MOMENTS, deleted),
    async strike(arena, rounds) {
      const { coordinator, kube } = arena.under;
      await scale(coordinator, "statefulset/rondo-operator", 0);
      await podsAre(kube, "operator", 0);
      await deleteAll(arena, rounds);
      await scale(coordinator, "statefulset/rondo-operator", 1);
    },
  },
  {
    name: "round deleted while an agent is down",
    slug: "del-agent",
    at: each(["training", "aggregating"], deleted),
    async strike(arena, rounds) {
      const { kubectl, kube } = arena.under.site("south");
      await scale(kubectl, "deployment/rondo-agent", 0);
      await podsAre(kube, "agent", 0);
      await deleteAll(arena, rounds);
    },
    lasts: "briefly",
    async heal({ under }) {
      const { kubectl, kube } = under.site("south");
      await scale(kubectl, "deployment/rondo-agent", 1);
      await isReady(kube, "agent");
    },
  },
  {
    name: "participant suspended",
    slug: "part-susp",
    at: {
      planning: without({ north: /^Revoked$/ }),
      training: without({ north: /^Revoked$/ }),
      aggregating: succeeds,
      publishing: succeeds,
    },
    strike: (arena) => suspend(arena, "north", true),
    restore: (arena) => suspend(arena, "north", false),
  },
  {
    name: "participant deleted",
    slug: "part-del",
    at: {
      training: without({ north: /^Revoked$/ }),
      aggregating: succeeds,
      publishing: succeeds,
    },
    async strike({ under }) {
      await under.kube.delete(PARTICIPANTS, { namespace: NAMESPACE, name: "north" });
    },
    restore: ({ under }) => under.installSite(under.site("north")),
  },
];
