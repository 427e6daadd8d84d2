/**
 * Publishing: the candidate goes to the registry and becomes an AdapterVersion. → Succeeded | Failed.
 * Holds: the manifest is pushed last and the AdapterVersion comes after it, so that nothing half-written can be found;
 * once the registry has everything, what is left is written to our own API server until it is there; only where that server
 * refuses it for good (a foreign object has its name, a right is missing) does the round fail, a minute after its deadline.
 */
import { fail, succeed } from "./end.ts";
import { phaseStart, type RoundRecord } from "./record.ts";
import type { Decision, PublishResult, World } from "./world.ts";

/** An aborted push says within this time how it ended. */
export const PUBLISH_GRACE_MS = 5_000;
const LONGEST_PAUSE_MS = 15_000;
const ACTIVATE_AGAIN_MS = 2_000;
/** Beyond the deadline, for an API server that refuses the AdapterVersion: a person may still be clearing its name. */
export const ACTIVATE_GRACE_MS = 60_000;

export function followPublishing(before: RoundRecord, world: World): Decision {
  if (before.published || world.publish?.kind === "published") return activate(withPublished(before, world), world);
  const failure = world.publish as Extract<PublishResult, { kind: "failed" }> | undefined;
  const deadline = phaseStart(before) + before.aggregationMs!;
  const abortedMs = world.publishing ? deadline + PUBLISH_GRACE_MS : deadline;
  if (world.nowMs >= abortedMs) return fail(before, publishFault(failure), world.nowMs);
  const againMs = failure ? failure.atMs + pauseMs(failure.tries) : world.nowMs;
  const due = !world.publishing && world.nowMs >= againMs;
  if (world.nowMs >= deadline) return { record: before, actions: [{ do: "abortPublish" }], lookAgainAtMs: abortedMs };
  return {
    record: before,
    actions: due ? [{ do: "publish" }] : [],
    lookAgainAtMs: due || world.publishing ? deadline : Math.min(deadline, againMs),
  };
}

/** 1, 2, 4, 8, 15, 15 … seconds. */
export function pauseMs(tries: number): number {
  return Math.min(LONGEST_PAUSE_MS, 1000 * 2 ** Math.max(0, tries - 1));
}

function withPublished(record: RoundRecord, world: World): RoundRecord {
  if (record.published || world.publish?.kind !== "published") return record;
  const { version, digest, reference } = world.publish;
  return { ...record, published: { version, digest, reference } };
}

function activate(record: RoundRecord, world: World): Decision {
  if (world.activated) return succeed(record, world.nowMs);
  const refused = world.activationProblem;
  if (refused && world.nowMs >= phaseStart(record) + record.aggregationMs! + ACTIVATE_GRACE_MS) {
    return fail(
      record,
      { code: "ActivationFailed", version: record.published!.version, problem: refused },
      world.nowMs,
    );
  }
  return { record, actions: [{ do: "activate" }], lookAgainAtMs: world.nowMs + ACTIVATE_AGAIN_MS };
}

function publishFault(failure: Extract<PublishResult, { kind: "failed" }> | undefined) {
  if (!failure) return { code: "RegistryUnreachable", problem: "the registry did not answer" } as const;
  const code = failure.unreachable ? "RegistryUnreachable" : "RegistryRefused";
  return { code, problem: failure.problem } as const;
}
