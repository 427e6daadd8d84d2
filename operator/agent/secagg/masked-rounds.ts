/**
 * The identity's memory of the highest round MASKED of each federation, in the same Secret as the key (secure-aggregation.md §6.5): a ledger
 * that was lost or put back from a snapshot is found out by it.
 * Holds: numbers only rise; a number is in the Secret before the first masked byte of its round leaves.
 */
import { z } from "zod";
import type { KubeClient } from "../../kube/client.ts";
import { SECRETS } from "../../kube/resources.ts";
import type { SessionLedger } from "./session-ledger.ts";

const FIELD = "highest-masked";
const roundsSchema = z.record(z.string(), z.int().min(1));

type SecretClient = Pick<KubeClient, "get" | "patchMerge">;

export class MaskedRounds {
  readonly #client: SecretClient;
  readonly #at: { namespace: string; name: string };
  readonly #rounds: Map<string, number>;
  #writing: Promise<unknown> = Promise.resolve();

  private constructor(client: SecretClient, at: { namespace: string; name: string }, rounds: Map<string, number>) {
    this.#client = client;
    this.#at = at;
    this.#rounds = rounds;
  }

  /** @throws Error when the Secret holds something else than rounds */
  static async load(client: SecretClient, at: { namespace: string; name: string }): Promise<MaskedRounds> {
    const text = (await client.get(SECRETS, at))?.data?.[FIELD];
    if (!text) return new MaskedRounds(client, at, new Map());
    const parsed = roundsSchema.safeParse(parseJson(Buffer.from(text, "base64").toString("utf8")));
    if (parsed.success) return new MaskedRounds(client, at, new Map(Object.entries(parsed.data)));
    throw new Error(
      `Secret ${at.namespace}/${at.name} has something in ${FIELD} that is no list of rounds; restore it`,
    );
  }

  /** Resolves when the Secret says at least this round. */
  raise({ federation, round }: { federation: string; round: number }): Promise<void> {
    const raised = this.#writing.then(() => this.#raise(federation, round));
    this.#writing = raised.catch(() => undefined);
    return raised;
  }

  /** Rounds MASKED that the identity remembers and this ledger does not: federation → highest round. Empty for a ledger that is whole. */
  async unknownTo(sessions: Pick<SessionLedger, "allHighestMasked">): Promise<Map<string, number>> {
    const known = await sessions.allHighestMasked();
    return new Map([...this.#rounds].filter(([federation, round]) => round > (known.get(federation) ?? 0)));
  }

  async #raise(federation: string, round: number): Promise<void> {
    if ((this.#rounds.get(federation) ?? 0) >= round) return;
    const rounds = new Map(this.#rounds).set(federation, round);
    const text = JSON.stringify(Object.fromEntries(rounds));
    await this.#client.patchMerge(SECRETS, this.#at, { data: { [FIELD]: Buffer.from(text).toString("base64") } });
    this.#rounds.set(federation, round);
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
