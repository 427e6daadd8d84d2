/**
 * An agent's client for tests: a real CoordinatorClient that remembers what it was told, and waits for it.
 */

import { type ClientOptions, CoordinatorClient } from "../../../operator/transport/client.ts";
import type { Introduction } from "../../../operator/transport/connection.ts";
import type { Credential, CredentialStore } from "../../../operator/transport/credential.ts";
import type { TransportCode } from "../../../operator/transport/faults.ts";
import type {
  Cancellation,
  DrawStep,
  ProtocolStep,
  Signed,
  Work,
} from "../../../operator/transport/generated/rondo.v1.ts";
import { generateIdentity } from "../../../operator/transport/identity.ts";
import type { Invitation } from "../../../operator/transport/invitation.ts";

export class TestAgent {
  readonly identity;
  readonly client: CoordinatorClient;
  readonly store: MemoryStore;
  readonly plans: Array<{ signed: Signed; clockSkewMs: number }> = [];
  readonly cancellations: Cancellation[] = [];
  readonly steps: ProtocolStep[] = [];
  readonly draws: DrawStep[] = [];
  readonly disconnections: Array<{ reason: string; code: TransportCode }> = [];
  connections = 0;
  introduction: Introduction = {
    agentVersion: "0.1.0",
    capacity: { gpus: 2, gpuResourceName: "nvidia.com/gpu" },
    open: [],
  };
  #watchers = new Set<() => void>();

  constructor(
    invitation: Invitation,
    { identity = generateIdentity(), store = new MemoryStore(), ...options }: AgentOptions = {},
  ) {
    this.identity = identity;
    this.store = store;
    this.client = new CoordinatorClient(
      { invitation, identity: identity.privateKey, reconnect: { firstMs: 20, mostMs: 200 }, ...options },
      {
        store,
        introduce: async () => this.introduction,
        handlers: {
          plan: (signed, clockSkewMs) => this.#note(() => this.plans.push({ signed, clockSkewMs })),
          cancelled: (cancellation) => this.#note(() => this.cancellations.push(cancellation)),
          step: (step) => this.#note(() => this.steps.push(step)),
          draw: (step) => this.#note(() => this.draws.push(step)),
          connected: () => this.#note(() => this.connections++),
          disconnected: (reason, code) => this.#note(() => this.disconnections.push({ reason, code })),
        },
      },
    );
  }

  /** Resolves when the condition holds; looked at whenever the client says something. */
  until(condition: () => boolean, what = condition.toString()): Promise<void> {
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`did not happen: ${what}`)), 20_000);
      const look = () => {
        if (!condition()) return;
        this.#watchers.delete(look);
        clearTimeout(late);
        resolve();
      };
      this.#watchers.add(look);
      look();
    });
  }

  async connected(times = 1): Promise<void> {
    this.client.start();
    await this.until(() => this.connections >= times, `${times} connections`);
  }

  async refused(code: TransportCode): Promise<string> {
    this.client.start();
    await this.until(() => this.disconnections.some((each) => each.code === code), `refused with ${code}`);
    return this.disconnections.find((each) => each.code === code)!.reason;
  }

  #note(note: () => unknown): void {
    note();
    for (const look of [...this.#watchers]) look();
  }
}

type AgentOptions = Partial<Pick<ClientOptions, "now" | "reconnect">> & {
  identity?: ReturnType<typeof generateIdentity>;
  store?: MemoryStore;
};

export class MemoryStore implements CredentialStore {
  credential: Credential | undefined;
  async load(): Promise<Credential | undefined> {
    return this.credential;
  }
  async save(credential: Credential): Promise<void> {
    this.credential = credential;
  }
}

export function workOf(participant: string, step = ""): Work {
  return { federation: "demo.rondo.dev/rondo/notes", round: 7, attempt: 1, purpose: "delta", participant, step };
}
