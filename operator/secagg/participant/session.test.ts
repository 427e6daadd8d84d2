/** Order, repeats and second requests (secure-aggregation.md §6.1, §6.2), from every state; and that each state survives as text. */
import { describe, expect, test } from "vitest";
import type { CoordinatorMessage } from "../messages.ts";
import type { ParticipantDeps } from "./deps.ts";
import { aborted, receive } from "./session.ts";
import type { Aborted, ParticipantState } from "./state.ts";
import { restoreState, storedState } from "./stored.ts";
import { Cohort, flipped, flood } from "./testing/cohort.ts";

const VICTIM = 2;
type Step = CoordinatorMessage["$case"];
type Kind = Exclude<ParticipantState["kind"], "Aborted">;

/** What the victim knew and was shown, state by state, in a session where 5 drops out after sharing. */
function history(): {
  deps: ParticipantDeps;
  states: Record<Kind, ParticipantState>;
  requests: Record<Step, CoordinatorMessage>;
} {
  const cohort = new Cohort({ size: 5 });
  const now = () => cohort.player(VICTIM).state;
  const Advertised = now();
  cohort.share();
  const [keys, Shared] = [cohort.keys(), now()];
  cohort.mask();
  const [shares, Masked] = [cohort.shares(VICTIM), now()];
  cohort.sign([1, 2, 3, 4]);
  const [consistency, Signed] = [cohort.consistency(), now()];
  cohort.release();
  return {
    deps: cohort.player(VICTIM).deps,
    states: { Advertised, Shared, Masked, Signed, Released: now() },
    requests: { keys, shares, consistency, unmask: cohort.unmask() },
  };
}

const { deps, states, requests } = history();
const never: ParticipantDeps = {
  ...deps,
  sign: () => {
    throw new Error("a repeat is signed again");
  },
  random: () => {
    throw new Error("a repeat draws again");
  },
};

/** The same request in the words of a coordinator that means something else. */
const second: Record<Step, CoordinatorMessage> = {
  keys: otherKeys(requests.keys),
  shares: otherShares(requests.shares),
  consistency: otherSurvivors(requests.consistency),
  unmask: otherAgreement(requests.unmask),
};

describe("the next request", () => {
  test.each<[Kind, Step, string]>([
    ["Advertised", "keys", "send"],
    ["Shared", "shares", "mask"],
    ["Masked", "consistency", "send"],
    ["Signed", "unmask", "send"],
  ])("%s goes on with %s", (kind, step, outcome) => {
    expect(receive(deps, states[kind], requests[step]).kind).toBe(outcome);
  });

  test.each<[Kind, Step]>([
    ["Advertised", "shares"],
    ["Advertised", "consistency"],
    ["Advertised", "unmask"],
    ["Shared", "consistency"],
    ["Shared", "unmask"],
    ["Masked", "unmask"],
  ])("%s aborts when %s is asked for out of order", (kind, step) => {
    const next: Aborted = {
      kind: "Aborted",
      from: kind as Aborted["from"],
      code: "OutOfOrder",
      accused: [],
      message: expect.any(String),
    };
    expect(receive(deps, states[kind], requests[step])).toEqual({ kind: "abort", next });
  });
});

describe("a repeat of the request that led into the state", () => {
  test.each<[Kind, Step]>([
    ["Shared", "keys"],
    ["Signed", "consistency"],
    ["Released", "unmask"],
  ])("%s answers %s with the stored message, and neither signs nor draws", (kind, step) => {
    const state = states[kind];
    expect(receive(never, state, requests[step])).toEqual({
      kind: "repeat",
      message: { $case: answerTo[step], value: messageOf(state) },
    });
  });

  test("Masked uploads on", () => expect(receive(never, states.Masked, requests.shares)).toEqual({ kind: "upload" }));

  test("Released answers whichever t of the survivors have signed: it is the same sum", () => {
    const cohort = new Cohort({ size: 5 }).share().mask().sign().release();
    const all = cohort.unmask().value.signatures;
    const some = cohort.show(VICTIM, { $case: "unmask", value: { signatures: all.slice(1) } });
    expect(some).toEqual({
      kind: "repeat",
      message: { $case: "unmask", value: messageOf(cohort.player(VICTIM).state) },
    });
  });

  test.each<[Kind, Step]>([
    ["Masked", "keys"],
    ["Signed", "keys"],
    ["Signed", "shares"],
    ["Released", "keys"],
    ["Released", "shares"],
    ["Released", "consistency"],
  ])("%s has nothing to say to %s any more", (kind, step) => {
    expect(receive(never, states[kind], requests[step])).toEqual({ kind: "nothing" });
  });
});

describe("a second request that differs", () => {
  test.each<[Kind, Step]>([
    ["Shared", "keys"],
    ["Masked", "keys"],
    ["Masked", "shares"],
    ["Signed", "keys"],
    ["Signed", "shares"],
    ["Signed", "consistency"],
  ])("%s aborts when %s is asked for once more with another set", (kind, step) => {
    const outcome = receive(never, states[kind], second[step]);
    const next: Aborted = {
      kind: "Aborted",
      from: kind as Aborted["from"],
      code: "SecondRequest",
      accused: [],
      message: expect.any(String),
    };
    expect(outcome).toEqual({ kind: "abort", next });
  });

  test.each<Step>(["keys", "shares", "consistency", "unmask"])(
    "Released refuses another %s and stays what it is",
    (step) => {
      expect(receive(never, states.Released, second[step])).toEqual({
        kind: "refuse",
        code: "SecondRequest",
        message: expect.any(String),
      });
    },
  );

  test("Released refuses to open another survivor set, though its members signed it", () => {
    // The classic attack: first without 5, then without 4, so that for 4 and 5 both shares are out.
    const other = new Cohort({ size: 5 }).share().mask().sign([1, 2, 3, 5]);
    expect(receive(never, states.Released, other.unmask())).toMatchObject({ kind: "refuse", code: "SecondRequest" });
    expect(receive(never, states.Released, other.consistency())).toMatchObject({
      kind: "refuse",
      code: "SecondRequest",
    });
  });

  test.each<CoordinatorMessage>([
    { $case: "keys", value: { advertised: flood() } },
    { $case: "shares", value: { acks: flood(), shares: [] } },
    { $case: "shares", value: { acks: [], shares: flood() } },
    { $case: "consistency", value: { u2: [1], inputs: flood() } },
    { $case: "unmask", value: { signatures: flood() } },
  ])("an endless list is no repeat of $$case, and nothing in it is looked at", (message) => {
    expect(receive(never, states.Released, message)).toMatchObject({ kind: "refuse", code: "SecondRequest" });
  });
});

describe("an end", () => {
  test.each<Kind>(["Advertised", "Shared", "Masked", "Signed"])(
    "%s can be called off, and says where it stood",
    (kind) => {
      const state = states[kind] as Parameters<typeof aborted>[0];
      const next = aborted(state, { code: "Cancelled", message: "The operator cancelled the round" });
      expect(next).toEqual({
        kind: "Aborted",
        from: kind,
        code: "Cancelled",
        message: "The operator cancelled the round",
        accused: [],
      });
      expect(storedState(next).secrets).toBeUndefined();
    },
  );

  test.each<Step>(["keys", "shares", "consistency", "unmask"])("an aborted session answers %s with its end", (step) => {
    const next = aborted(states.Masked as Parameters<typeof aborted>[0], {
      code: "RoundEnded",
      message: "The round is over",
    });
    expect(receive(never, next, requests[step])).toEqual({ kind: "abort", next });
  });
});

describe("restored from text", () => {
  const texts = (state: ParticipantState) => JSON.parse(JSON.stringify(storedState(state)));

  test.each(Object.entries(states))("%s is what it was", (_, state) => {
    expect(restoreState(texts(state))).toEqual(state);
  });

  test.each<[Kind, Step]>([
    ["Shared", "keys"],
    ["Masked", "shares"],
    ["Signed", "consistency"],
    ["Released", "unmask"],
  ])("%s answers a repeat of %s with the same bytes", (kind, step) => {
    const restored = restoreState(texts(states[kind]));
    expect(receive(never, restored, requests[step])).toEqual(receive(never, states[kind], requests[step]));
  });

  test.each<[Kind, Step]>([
    ["Shared", "shares"],
    ["Masked", "consistency"],
    ["Signed", "unmask"],
  ])("%s goes on with %s as if nothing had happened", (kind, step) => {
    const restored = restoreState(texts(states[kind]));
    expect(receive(deps, restored, requests[step])).toEqual(receive(deps, states[kind], requests[step]));
  });

  test("an aborted session is what it was", () => {
    const outcome = receive(deps, states.Masked, second.shares);
    if (outcome.kind !== "abort") throw new Error(outcome.kind);
    expect(restoreState(texts(outcome.next))).toEqual(outcome.next);
  });

  test("no secret is in the open text", () => {
    for (const state of Object.values(states)) {
      const { open } = storedState(state);
      for (const secret of secretsOf(state)) {
        expect(open.includes(Buffer.from(secret).toString("base64")), state.kind).toBe(false);
      }
    }
  });

  test("a state whose secrets are gone is none", () => {
    expect(() => restoreState({ open: storedState(states.Masked).open })).toThrow();
  });

  test("a state with the secrets of another is none", () => {
    expect(() =>
      restoreState({ open: storedState(states.Masked).open, secrets: storedState(states.Shared).secrets }),
    ).toThrow();
    expect(() =>
      restoreState({ open: storedState(states.Released).open, secrets: storedState(states.Signed).secrets }),
    ).toThrow();
  });
});

const answerTo: Record<Step, string> = { keys: "share", shares: "", consistency: "consistency", unmask: "unmask" };
const messageOf = (state: ParticipantState) => ("message" in state ? state.message : undefined);

function secretsOf(state: ParticipantState): Uint8Array[] {
  if (!("secrets" in state)) return [];
  const { secrets } = state;
  if ("shares" in secrets)
    return secrets.shares.flatMap(({ selfShare, pairShare }) => (pairShare ? [selfShare, pairShare] : [selfShare]));
  return Object.values(secrets);
}

function otherKeys(message: CoordinatorMessage): CoordinatorMessage {
  if (message.$case !== "keys") throw new Error(message.$case);
  return { $case: "keys", value: { advertised: message.value.advertised.slice(0, 4) } };
}
function otherShares(message: CoordinatorMessage): CoordinatorMessage {
  if (message.$case !== "shares") throw new Error(message.$case);
  const { acks, shares } = message.value;
  return {
    $case: "shares",
    value: { acks, shares: shares.map((share) => ({ ...share, ciphertext: flipped(share.ciphertext) })) },
  };
}
function otherSurvivors(message: CoordinatorMessage): CoordinatorMessage {
  if (message.$case !== "consistency") throw new Error(message.$case);
  return { $case: "consistency", value: { ...message.value, inputs: message.value.inputs.slice(1) } };
}
function otherAgreement(message: CoordinatorMessage): CoordinatorMessage {
  if (message.$case !== "unmask") throw new Error(message.$case);
  const signatures = message.value.signatures.map((own) => ({ ...own, signature: flipped(own.signature) }));
  return { $case: "unmask", value: { signatures } };
}
