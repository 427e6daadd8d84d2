/**
 * Kubernetes Events (events.k8s.io/v1): what `kubectl describe` shows below an object.
 * Holds: the same thing said again within SERIES_MS counts up one Event instead of making another; an object that says more than
 *   MAX_NOTES different things for one reason gets one combined Event; notes are cut to 1 KiB; recording never
 *   throws, never waits, and drops events rather than piling them up when the API server is away.
 * Does not: hold anything a decision needs. Events are for people, and they expire after an hour.
 */
import { createHash } from "node:crypto";
import type { Logger } from "pino";
import type { KubeClient } from "./client.ts";
import type { KubeObject } from "./objects.ts";
import { EVENTS } from "./resources.ts";

export type EventNote = {
  type: "Normal" | "Warning";
  /** CamelCase constant: "ParticipantRefused". */
  reason: string;
  /** What was being done, CamelCase: "Plan", "Publish". Default: the reason. */
  action?: string;
  /** A sentence with nothing private in it. */
  note: string;
};

export type EventRecorderOptions = {
  client: KubeClient;
  log: Logger;
  /** "rondo.dev/operator" */
  controller: string;
  /** The pod. */
  instance: string;
  now?: () => Date;
};

type Series = { name: string; namespace: string; count: number; lastAt: number; isCreated: boolean; isDirty: boolean };

/** Kubernetes' own figure: after six quiet minutes the same thing is news again. */
const SERIES_MS = 6 * 60_000;
/** Different notes for one object and reason within SERIES_MS. */
const MAX_NOTES = 10;
const MAX_NOTE_BYTES = 1024;
/** Series remembered; the oldest is forgotten first and would begin a new Event. */
const MAX_SERIES = 1024;
/** Events on their way to the API server. */
const MAX_PENDING = 256;

export class EventRecorder {
  readonly #options: EventRecorderOptions;
  readonly #now: () => Date;
  readonly #series = new Map<string, Series>();
  readonly #notes = new Map<string, { notes: Set<string>; lastAt: number }>();
  #pending = 0;
  #tail: Promise<void> = Promise.resolve();

  constructor(options: EventRecorderOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => new Date());
  }

  record(regarding: KubeObject, event: EventNote): void {
    const note = this.#combined(regarding, { ...event, note: cut(event.note) });
    const identity = [
      regarding.metadata.uid ?? regarding.metadata.name,
      note.type,
      note.reason,
      note.action,
      note.note,
    ];
    const key = createHash("sha256").update(JSON.stringify(identity)).digest("hex");
    const at = this.#now().getTime();
    const running = this.#series.get(key);
    if (running && at - running.lastAt < SERIES_MS) {
      running.count++;
      running.lastAt = at;
      // Said many times before the API server heard of it: it is told the last count once.
      if (running.isDirty) return;
      running.isDirty = true;
      this.#enqueue(() => this.#update(running));
      return;
    }
    const namespace = regarding.metadata.namespace ?? "default";
    const name = `${regarding.metadata.name.slice(0, 200)}.${key.slice(0, 8)}${at.toString(16)}`;
    const series: Series = { name, namespace, count: 1, lastAt: at, isCreated: false, isDirty: false };
    remember(this.#series, key, series);
    this.#enqueue(() => this.#create(series, regarding, note));
  }

  /** Resolves when what was recorded so far has been sent, or dropped. */
  flush(): Promise<void> {
    return this.#tail;
  }

  #combined(regarding: KubeObject, event: EventNote): EventNote {
    const key = `${regarding.metadata.uid ?? regarding.metadata.name} ${event.type} ${event.reason}`;
    const at = this.#now().getTime();
    const known = this.#notes.get(key);
    const recent = known && at - known.lastAt < SERIES_MS ? known : { notes: new Set<string>(), lastAt: at };
    recent.lastAt = at;
    remember(this.#notes, key, recent);
    if (recent.notes.has(event.note)) return event;
    if (recent.notes.size >= MAX_NOTES) return { ...event, note: `(several, see the log) ${event.reason}` };
    recent.notes.add(event.note);
    return event;
  }

  async #create(series: Series, regarding: KubeObject, event: EventNote): Promise<void> {
    const { controller, instance, client } = this.#options;
    const { name, namespace, uid, resourceVersion } = regarding.metadata;
    await client.create(EVENTS, {
      metadata: { name: series.name, namespace: series.namespace },
      eventTime: micro(new Date(series.lastAt)),
      reportingController: controller,
      reportingInstance: instance.slice(0, 128),
      action: event.action ?? event.reason,
      reason: event.reason,
      type: event.type,
      note: event.note,
      regarding: {
        apiVersion: regarding.apiVersion,
        kind: regarding.kind,
        name,
        ...(namespace ? { namespace } : {}),
        ...(uid ? { uid } : {}),
        ...(resourceVersion ? { resourceVersion } : {}),
      },
    });
    series.isCreated = true;
  }

  async #update(series: Series): Promise<void> {
    series.isDirty = false;
    if (!series.isCreated) return;
    const { name, namespace, count, lastAt } = series;
    const patch = { series: { count, lastObservedTime: micro(new Date(lastAt)) } };
    await this.#options.client.patchMerge(EVENTS, { name, namespace }, patch);
  }

  /** One after the other: an update must not overtake its creation. */
  #enqueue(send: () => Promise<void>): void {
    if (this.#pending >= MAX_PENDING) return;
    this.#pending++;
    this.#tail = this.#tail
      .then(send)
      .catch((error: unknown) => this.#options.log.warn({ err: error }, "event not recorded"))
      .finally(() => {
        this.#pending--;
      });
  }
}

function remember<V>(map: Map<string, V>, key: string, value: V): void {
  map.delete(key);
  map.set(key, value);
  if (map.size > MAX_SERIES) map.delete(map.keys().next().value!);
}

/** The API server counts bytes. */
function cut(note: string): string {
  const bytes = Buffer.from(note);
  if (bytes.length <= MAX_NOTE_BYTES) return note;
  // A character cut in half decodes to U+FFFD, which goes as well.
  return `${bytes
    .subarray(0, MAX_NOTE_BYTES - 3)
    .toString("utf8")
    .replace(/\uFFFD$/, "")}…`;
}

function micro(date: Date): string {
  return date.toISOString().replace("Z", "000Z");
}
