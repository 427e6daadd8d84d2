/**
 * What the site's own people are told as Kubernetes Events: what somebody tried, or what waits for them.
 * Holds: recording never throws and never waits. Does not: hold anything that a decision needs.
 */
import type { EventRecorder } from "../kube/events.ts";
import type { KubeObject } from "../kube/objects.ts";

export interface SiteEvents {
  /**
   * @param job  the round's trainer Job, which it is shown with; absent: the agent's Service, which outlives every round
   * @param reason  CamelCase
   */
  warn(job: string | undefined, reason: string, sentence: string): void;
}

export class ClusterEvents implements SiteEvents {
  readonly #options: { recorder: EventRecorder; namespace: string; service: { name: string; uid: string } };

  constructor(options: { recorder: EventRecorder; namespace: string; service: { name: string; uid: string } }) {
    this.#options = options;
  }

  warn(job: string | undefined, reason: string, sentence: string): void {
    const { recorder, namespace, service } = this.#options;
    // The Job may be gone by now; an Event names it all the same.
    const about: KubeObject = job
      ? { apiVersion: "batch/v1", kind: "Job", metadata: { namespace, name: job } }
      : { apiVersion: "v1", kind: "Service", metadata: { namespace, ...service } };
    recorder.record(about, { type: "Warning", reason, note: sentence });
  }
}
