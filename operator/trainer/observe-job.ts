/**
 * What a trainer's Job is doing, in one word and one sentence, from the Job, its pods and (where those say nothing) its events.
 * Specified: api.md "a CamelCase reason and one sentence a person can act on"; the faults of the trainer contract.
 * Holds: pure; a message never contains what the trainer wrote (that may quote data): see `trainerError`.
 * Does not: decide what follows (agent/assignment.ts, controllers).
 */
import type { CoreEvent, Job, Pod } from "../kube/resources.ts";
import { exitMeaning } from "./exits.ts";
import { TRAINER_CONTAINER } from "./job.ts";

type Condition = { type: string; status: string; reason?: string; message?: string };
type ContainerStatus = NonNullable<NonNullable<Pod["status"]>["containerStatuses"]>[number];

export type JobState = "Missing" | "Scheduling" | "Running" | "Succeeded" | "Failed";

export interface JobObservation {
  state: JobState;
  /** CamelCase, never empty. */
  reason: string;
  /** One sentence, at most 256 characters; empty while all is well. */
  message: string;
  exitCode?: number;
  /**
   * The Job goes on, and waiting will not help: `now` what is written wrong (a name, a configuration, a command), `soon` what may be a hiccup of
   * a registry or a node.
   */
  hopeless?: "now" | "soon";
  /** The trainer's last lines of stderr. They may quote data: for the site's own events only. */
  trainerError?: string;
}

/** An image name that is wrong does not get right by waiting. */
const imageFaults: Record<string, string> = {
  ErrImagePull: "cannot be pulled",
  ImagePullBackOff: "cannot be pulled",
  InvalidImageName: "has a name that is not valid",
  ErrImageNeverPull: "is not on the node and the pull policy is Never",
  ImageInspectError: "cannot be inspected on the node",
  RegistryUnavailable: "cannot be pulled: its registry does not answer",
};

const WRITTEN_WRONG = new Set([
  "InvalidImageName",
  "ErrImageNeverPull",
  "CreateContainerConfigError",
  "RunContainerError",
]);

/** What kubelet and container runtimes say when they are the ones in trouble: the same pod may start a moment later. */
const PASSING =
  /timed out|timeout|deadline exceeded|connection refused|unavailable|ttrpc|failed to sync|too many requests/i;

const createFaults: Record<string, string> = {
  CreateContainerConfigError: "the trainer's container cannot be configured",
  CreateContainerError: "the trainer's container cannot be created",
  RunContainerError: "the trainer's container cannot be started",
};

/**
 * @param job     undefined: there is none (not made yet, or deleted)
 * @param pods    those of the Job, in any order
 * @param events  of the Job and its pods; needed only while there is no running pod
 */
export function observeJob(job: Job | undefined, pods: Pod[], events: CoreEvent[] = []): JobObservation {
  if (!job) return { state: "Missing", reason: "JobMissing", message: "the trainer's Job does not exist" };
  const pod = newest(pods);
  if (holds(job, "Complete") || holds(job, "SuccessCriteriaMet")) {
    return { state: "Succeeded", reason: "Completed", message: "", exitCode: 0 };
  }
  const failed = condition(job, "Failed") ?? condition(job, "FailureTarget");
  if (failed) return failedJob(failed, pod, pods);
  if (!pod) return withoutPod(job, events);
  return livingPod(pod, events);
}

function failedJob(failed: Condition, pod: Pod | undefined, pods: Pod[]): JobObservation {
  if (failed.reason === "DeadlineExceeded") {
    const before = pod ? livingPod(pod, []) : undefined;
    if (before?.state === "Scheduling") {
      return {
        state: "Failed",
        reason: before.reason,
        message: before.message || "the trainer's pod was never started",
      };
    }
    return fault("DeadlineExceeded", "the trainer did not end by its deadline and was stopped");
  }
  // With a policy or a spent backoff limit the pod that failed says more than the Job.
  const told =
    pods
      .filter((each) => each.status?.phase === "Failed")
      .sort(byAge)
      .at(-1) ?? pod;
  const ended = told && endedPod(told);
  if (ended) return ended;
  // The pod is gone, with its node perhaps; the Job controller has written down what it saw.
  const exitCode = Number(/failed with exit code ([0-9]{1,3})/.exec(failed.message ?? "")?.[1] ?? 0);
  if (exitCode > 0) return { ...fault(exitMeaning(exitCode).reason, exitMeaning(exitCode).message), exitCode };
  return fault(camel(failed.reason, "JobFailed"), sentence(failed.message, "the trainer's Job failed"));
}

/** undefined: this pod has not failed. */
function endedPod(pod: Pod): JobObservation | undefined {
  const { status } = pod;
  const disrupted = status?.conditions?.find((each) => each.type === "DisruptionTarget" && each.status === "True");
  const trainer = trainerOf(pod);
  const terminated = trainer?.state?.terminated ?? trainer?.lastState?.terminated;
  if (terminated && terminated.exitCode !== 0) {
    const error = terminated.message ? { trainerError: terminated.message } : {};
    const exitCode = terminated.exitCode;
    if (terminated.reason === "OOMKilled") {
      return {
        ...fault("OutOfMemory", "the trainer was killed because it used more memory than its limit"),
        exitCode,
        ...error,
      };
    }
    if (isStartError(terminated)) return { ...cannotStart(pod, terminated.message), exitCode };
    if (disrupted) return { ...evicted(disrupted), exitCode };
    return { ...fault(exitMeaning(exitCode).reason, exitMeaning(exitCode).message), exitCode, ...error };
  }
  if (status?.phase !== "Failed") return undefined;
  if (disrupted) return evicted(disrupted);
  if (status.reason === "Evicted")
    return fault("Evicted", sentence(status.message, "the node evicted the trainer's pod"));
  return fault(
    camel(status.reason, "PodFailed"),
    sentence(status.message, failedInit(pod) ?? "the trainer's pod failed"),
  );
}

type Terminated = NonNullable<NonNullable<ContainerStatus["state"]>["terminated"]>;

/** The runtime's words are about the command, not of the trainer. */
function isStartError({ reason }: Terminated): boolean {
  return reason === "StartError" || reason === "ContainerCannotRun";
}

function cannotStart(pod: Pod, message = ""): JobObservation {
  const what = /exec: .*|exec format error.*|no such file or directory.*|permission denied.*/s.exec(message)?.[0];
  const detail = what ? `: ${what}` : "";
  return fault("CannotStart", `the trainer's command cannot be run in its image (${imageOfTrainer(pod)})${detail}`);
}

/** A container that the site's pod template puts before the trainer. */
function failedInit({ status }: Pod): string | undefined {
  const failed = status?.initContainerStatuses?.find((each) => (each.state?.terminated?.exitCode ?? 0) !== 0);
  return (
    failed &&
    `init container ${failed.name} of the site's pod template ended with exit code ${failed.state?.terminated?.exitCode}`
  );
}

function evicted(disrupted: Condition): JobObservation {
  return fault(
    "Evicted",
    `the trainer's pod was evicted: ${sentence(disrupted.message, disrupted.reason ?? "no reason given")}`,
  );
}

function withoutPod(job: Job, events: CoreEvent[]): JobObservation {
  const refused = events
    .filter((each) => each.reason === "FailedCreate")
    .sort(byTime)
    .at(-1);
  if (refused) {
    return { ...scheduling("PodRefused", `the trainer's pod cannot be created: ${refused.message ?? ""}`) };
  }
  if (holds(job, "Suspended")) {
    return scheduling("Suspended", "the Job is suspended: a queue at the site has not admitted it yet");
  }
  return scheduling("PodPending", "");
}

function livingPod(pod: Pod, events: CoreEvent[]): JobObservation {
  if (pod.status?.phase === "Failed") {
    // The Job has budget for one more pod.
    const ended = endedPod(pod);
    const terminated = trainerOf(pod)?.state?.terminated;
    if (terminated && isStartError(terminated) && !PASSING.test(terminated.message ?? "")) {
      const { reason, message } = cannotStart(pod, terminated.message);
      return { ...scheduling(reason, message), hopeless: "now" };
    }
    return scheduling("Restarting", ended ? `an earlier try failed: ${ended.message}` : "", ended?.trainerError);
  }
  const scheduled = pod.status?.conditions?.find((each) => each.type === "PodScheduled");
  if (scheduled?.status === "False") {
    return scheduling(
      camel(scheduled.reason, "Unschedulable"),
      sentence(scheduled.message, "no node takes the trainer's pod"),
    );
  }
  const trainer = trainerOf(pod);
  if (trainer?.state?.running) return { state: "Running", reason: "Running", message: "" };
  if (trainer?.state?.terminated) {
    const ended = endedPod(pod);
    return ended
      ? scheduling("Restarting", ended.message, ended.trainerError)
      : { state: "Running", reason: "Ending", message: "" };
  }
  const every = [...(pod.status?.initContainerStatuses ?? []), ...(pod.status?.containerStatuses ?? [])];
  for (const container of every) {
    const waiting = container.state?.waiting?.reason;
    if (!waiting) continue;
    const bad = imageFaults[waiting];
    if (bad) {
      const image = imageOf(pod, container);
      const hopeless = WRITTEN_WRONG.has(waiting) ? "now" : "soon";
      return { ...scheduling("ImageUnavailable", `image ${image} ${bad} (${waiting})`), hopeless };
    }
    const broken = createFaults[waiting];
    if (broken) {
      const detail = sentence(container.state?.waiting?.message, waiting);
      const hopeless = WRITTEN_WRONG.has(waiting) && !PASSING.test(detail) ? "now" : "soon";
      return { ...scheduling(waiting, `${broken} (image ${imageOf(pod, container)}): ${detail}`), hopeless };
    }
  }
  const mount = events
    .filter((each) => each.reason === "FailedMount" || each.reason === "FailedAttachVolume")
    .sort(byTime);
  if (mount.length > 0) {
    return scheduling("VolumeUnavailable", `a volume cannot be mounted: ${mount.at(-1)?.message ?? ""}`);
  }
  const initialising = pod.status?.initContainerStatuses?.some((each) => !each.state?.terminated);
  return scheduling(initialising ? "Initialising" : scheduled ? "ContainerCreating" : "PodPending", "");
}

function trainerOf(pod: Pod): ContainerStatus | undefined {
  return pod.status?.containerStatuses?.find((each) => each.name === TRAINER_CONTAINER);
}

/** What was asked for; the status repeats it in the runtime's own spelling. */
function imageOf(pod: Pod, container: ContainerStatus): string {
  return pod.spec?.containers?.find((each) => each.name === container.name)?.image ?? container.image ?? "(unknown)";
}

function imageOfTrainer(pod: Pod): string {
  return pod.spec?.containers?.find((each) => each.name === TRAINER_CONTAINER)?.image ?? "(unknown)";
}

function scheduling(reason: string, message: string, trainerError?: string): JobObservation {
  return { state: "Scheduling", reason, message: sentence(message, ""), ...(trainerError ? { trainerError } : {}) };
}

function fault(reason: string, message: string): JobObservation {
  return { state: "Failed", reason, message: sentence(message, "") };
}

function condition(job: Job, type: string): Condition | undefined {
  return job.status?.conditions?.find((each) => each.type === type && each.status === "True");
}

function holds(job: Job, type: string): boolean {
  return condition(job, type) !== undefined;
}

function newest(pods: Pod[]): Pod | undefined {
  return [...pods].sort(byAge).at(-1);
}

function byAge(a: Pod, b: Pod): number {
  return (a.metadata.creationTimestamp ?? "").localeCompare(b.metadata.creationTimestamp ?? "");
}

function byTime(a: CoreEvent, b: CoreEvent): number {
  const time = (each: CoreEvent) => each.lastTimestamp ?? each.eventTime ?? "";
  return time(a).localeCompare(time(b));
}

function camel(reason: string | undefined, otherwise: string): string {
  return reason && /^[A-Z][A-Za-z0-9]*$/.test(reason) ? reason : otherwise;
}

/** One line of at most 256 characters, the most a round's status takes. */
export function sentence(text: string | undefined, otherwise: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: what a terminal would obey must not reach a status
  const line = (text || otherwise).replace(/[\s\u0000-\u001f\u007f-\u009f]+/g, " ").trim();
  return line.length > 256 ? `${line.slice(0, 255)}…` : line;
}
