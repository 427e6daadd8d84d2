/**
 * The secure half of one assignment's work: its delta, its session, and what the operator asks of it, in turn.
 * Holds: the session is loaded before anything is decided about it; the delta is looked at again where this process has not, in files that
 * are on disk; questions are answered one after the other, and a flood of them is dropped, not kept.
 */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { effect } from "../../fault-injection.ts";
import type { Write } from "../../journal/journal.ts";
import type { Plan } from "../../round/plan.ts";
import type { CoordinatorMessage } from "../../secagg/messages.ts";
import type { SessionFacts } from "../assignment.ts";
import { type Difference, makeDifference } from "../delta.ts";
import type { Assignment } from "../record.ts";
import { SecureSession, type SessionDeps } from "./session.ts";
import type { SessionEnd, SessionProblem } from "./session-record.ts";

export type SecureStep = "advertise" | "answer" | "send" | "uploadMasked";

const MASKED = "masked.bin";

/** An honest operator asks four things, each again at a reconnect; what is dropped is asked again too. */
const MOST_ASKED = 16;

export class SecureWork {
  readonly #plan: Plan;
  /** The assignment's work folder; parent.safetensors and trained.safetensors are in it. */
  readonly #folder: string;
  readonly #deps: SessionDeps;
  readonly #wake: () => void;
  #session: SecureSession | undefined;
  #asked: CoordinatorMessage[] = [];
  #difference: Difference | undefined;

  constructor(plan: Plan, options: { folder: string; session: SessionDeps; wake: () => void }) {
    this.#plan = plan;
    this.#folder = options.folder;
    this.#deps = options.session;
    this.#wake = options.wake;
  }

  ask(message: CoordinatorMessage): void {
    // At each reconnect while an upload goes on, the same question comes again.
    if (this.#asked.some((waiting) => isDeepStrictEqual(waiting, message))) return;
    if (this.#asked.length >= MOST_ASKED) {
      this.#deps.log.warn({ asked: message.$case }, "too many steps of secure aggregation at once, one dropped");
      return;
    }
    this.#asked.push(message);
    this.#wake();
  }

  get end(): SessionEnd | undefined {
    return this.#session?.end;
  }

  /** Of an assignment that is Prepared. */
  async facts(assignment: Assignment): Promise<SessionFacts> {
    this.#session ??= await SecureSession.open(assignment, this.#plan, this.#deps);
    return { ...this.#session.facts, isAsked: this.#asked.length > 0 };
  }

  /** Looks at the delta, which is on disk now. @throws AdapterFault when the trained adapter is not what the plan says, or not finite */
  async prepare({ result }: Assignment): Promise<void> {
    this.#difference = await makeDifference({
      plan: this.#plan,
      parentFile: this.#file("parent.safetensors"),
      trainedFile: this.#file("trained.safetensors"),
      deltaFile: this.#file("delta.safetensors"),
      examples: result?.examples ?? 0,
    });
  }

  /** @param signal  ends what takes long */
  async perform(step: SecureStep, assignment: Assignment, signal: AbortSignal): Promise<void> {
    const session = this.#session;
    if (!session) return;
    switch (step) {
      case "advertise":
        // Of an attempt before: it went to another sum, and nothing may take it for this one's.
        await rm(this.#file(MASKED), { force: true });
        effect("file", `remove ${MASKED}`);
        return session.advertise();
      case "send":
        return session.send(this.#wake);
      case "uploadMasked":
        return session.upload(this.#sessionFiles(assignment), signal);
      case "answer": {
        await session.answer(this.#asked[0]!, this.#sessionFiles(assignment), signal);
        // Only now: what failed on the way (a full disk) is tried again.
        this.#asked.shift();
      }
    }
  }

  /** See SecureSession. */
  endWrites(problem: SessionProblem): Write[] {
    return this.#session?.endWrites(problem) ?? [];
  }

  ended(problem: SessionProblem): void {
    this.#session?.ended(problem);
    this.#asked = [];
  }

  #sessionFiles(assignment: Assignment) {
    return {
      masked: this.#file(MASKED),
      delta: async () => {
        if (!this.#difference) await this.prepare(assignment);
        return this.#difference!;
      },
    };
  }

  #file(name: string): string {
    return join(this.#folder, name);
  }
}
