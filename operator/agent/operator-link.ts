/**
 * The agent's link over transport/client.ts: assignments in, protocol messages out.
 * Holds: what the operator refuses for good is not said again; every sentence that leaves is one line of at most 256 characters.
 */
import { merkleRoot } from "../journal/merkle.ts";
import type { ParticipantMessage, RevealedShare } from "../secagg/messages.ts";
import { sentence } from "../trainer/observe-job.ts";
import type { CoordinatorClient } from "../transport/client.ts";
import { TransportFault } from "../transport/faults.ts";
import type { Work } from "../transport/generated/rondo.v1.ts";
import { manifestOf } from "../transport/upload-client.ts";
import type { TrainerReport } from "./assignment.ts";
import {
  type AdapterRequest,
  type FailureReport,
  type NamedDraw,
  type NamedWork,
  NotWanted,
  OperatorFault,
  type OperatorLink,
  type Upload,
} from "./link.ts";
import type { Assignment } from "./record.ts";

export class ClientLink implements OperatorLink {
  readonly #client: CoordinatorClient;

  constructor(client: CoordinatorClient) {
    this.#client = client;
  }

  async accept(assignment: Assignment): Promise<void> {
    try {
      await this.#client.send("accept", { work: workOf(assignment, "accept"), planHash: planHashOf(assignment) });
    } catch (error) {
      if (isFinal(error)) throw new NotWanted(error.code, error.message);
      throw error;
    }
  }

  async refuse(of: NamedWork, refusal: { reason: string; message: string }): Promise<void> {
    const body = { work: workOf(of, "refuse"), planHash: planHashOf(of), ...said(refusal) };
    await this.#client.send("refuse", body).catch(dropFinal);
  }

  async fail(assignment: Assignment, failure: FailureReport): Promise<void> {
    await this.#client
      .send("fail", { work: workOf(assignment, "fail"), ...said(failure), accused: [...(failure.accused ?? [])] })
      .catch(dropFinal);
  }

  status(assignment: Assignment, report: TrainerReport): void {
    const { state, step, steps, reason, message } = report;
    const body = {
      work: workOf(assignment, "status"),
      state,
      job: assignment.job,
      progressStep: Math.min(step, steps),
      progressSteps: steps,
      ...said({ reason, message }),
    };
    // A status that the operator does not want, or that a stop cuts off, needs no answer: the record says it again.
    this.#client.send("status", body).catch(() => undefined);
  }

  async fetchAdapter({ federation, digest, byteLength, file, signal }: AdapterRequest): Promise<void> {
    const raw = Buffer.from(digest.replace("sha256:", ""), "hex");
    await orFault(this.#client.download(raw, file, { federation, expectedBytes: byteLength, signal }));
  }

  async upload(assignment: Assignment, { file, signal, input }: Upload): Promise<void> {
    const work = workOf(assignment, "upload");
    const manifest = await manifestOf(file, work, planHashOf(assignment), input);
    if (input && !Buffer.from(merkleRoot(manifest.leaves)).equals(input.root)) {
      throw new OperatorFault("FileChanged", "the masked vector on this site's disk is not the one that was signed");
    }
    await orFault(this.#client.upload(manifest, file, { signal }));
  }

  async say(assignment: Assignment, message: ParticipantMessage, signal: AbortSignal): Promise<void> {
    const work = workOf(assignment, message.$case);
    switch (message.$case) {
      case "advertise": {
        const body = { work, planHash: planHashOf(assignment), advertisement: message.value };
        return orFault(this.#client.send("advertise", body, { signal }));
      }
      case "share":
        return orFault(this.#client.send("share", { work, ...message.value }, { signal }));
      case "consistency":
        return orFault(this.#client.send("consistency", { work, ...message.value }, { signal }));
      case "unmask":
        return orFault(this.#client.send("unmask", { work, shares: message.value.shares.map(oneOf) }, { signal }));
    }
  }

  async commit(draw: NamedDraw, commitment: Uint8Array, signature: Uint8Array): Promise<void> {
    await orFault(this.#client.send("commit", { work: drawOf(draw, "commit"), commitment, signature }));
  }

  async reveal(draw: NamedDraw, nonce: Uint8Array): Promise<void> {
    await orFault(this.#client.send("reveal", { work: drawOf(draw, "reveal"), nonce }));
  }
}

async function orFault(doing: Promise<unknown>): Promise<void> {
  try {
    await doing;
  } catch (error) {
    if (isFinal(error)) throw new OperatorFault(error.code, error.message);
    throw error;
  }
}

/** The wire's type has the field even where it is empty. */
const oneOf = ({ index, share }: RevealedShare) => ({ index, share });

function drawOf({ federation, round, number, participant }: NamedDraw, step: string): Work {
  return { federation, round, attempt: number, purpose: "draw", participant, step };
}

export function workOf(of: NamedWork, step: string): Work {
  const { federation, round, attempt, purpose, participant } = of;
  return { federation, round, attempt, purpose, participant, step };
}

function planHashOf({ planHash }: NamedWork): Uint8Array {
  return Buffer.from(planHash, "hex");
}

function said({ reason, message }: { reason: string; message: string }): { reason: string; message: string } {
  return { reason, message: sentence(message, "") };
}

function isFinal(error: unknown): error is TransportFault {
  return error instanceof TransportFault && error.retry === "never" && error.code !== "Stopped";
}

/** The round is over there, or does not know this work: nobody waits for the word any more. */
function dropFinal(error: unknown): void {
  if (!isFinal(error)) throw error;
}
