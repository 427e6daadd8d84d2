/**
 * Publishing: the candidate goes to the registry and becomes an AdapterVersion. → Succeeded | Failed.
 * Holds: the manifest is pushed last and the AdapterVersion comes after it, so that nothing half-written can be found;
 * once the registry has everything, what is left is written to our own API server until it is there; only where that server
 * refuses it for good (a foreign object has its name, a right is missing) does the round fail, a minute after its deadline.
 */
import { fail, succeed } from "./end.ts";
import { pauseMs } from "./pauses.ts";
import { phaseStart, type RoundRecord } from "./record.ts";
import type { Decision, PublishResult, World } from "./world.ts";

/** An aborted push says within this time how it ended. */
export const PUBLISH_GRACE_MS = 5_000;
const ACTIVATE_AGAIN_MS = 2_000;
/** Beyond the deadline, for an API server that refuses the AdapterVersion: a person may still be clearing its name. */
export const ACTIVATE_GRACE_MS = 60_000;

/**
 * A round that is cancelled while its push is under way: the push is aborted, and says how it ended. What the registry holds already cannot
 * be taken back: then the round succeeds.
 */
export function endsPublishing(record: RoundRecord, world: World): Decision | undefined {
  if (record.phase !== "Publishing") return undefined;
  if (record.published || world.publish?.kind === "published") return followPublishing(record, world);
  const abortedMs = phaseStart(record) + record.aggregationMs! + PUBLISH_GRACE_MS;
  if (!world.publishing || world.nowMs >= abortedMs) return undefined;
  return { record, actions: [{ do: "abortPublish" }], lookAgainAtMs: abortedMs };
}

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
