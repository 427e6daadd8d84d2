/**
 * A coordinator that lies, against real participants (secure-aggregation.md §3, §6): whatever it shows, a participant that could be harmed
 * by it ends its session, sends nothing more, and has no secret left. That the ledger and a person hear of it is the agent's test.
 */
import { describe, expect, test } from "vitest";
import { sha256, utf8 } from "./bytes.ts";
import { closeStep, requestFor } from "./coordinator/cohort.ts";
import type { SecaggCode } from "./faults.ts";
import type { Advertisement, ConsistencyRequest, CoordinatorMessage, IndexedSignature, ShareList } from "./messages.ts";
import { receive } from "./participant/session.ts";
import type { ParticipantState } from "./participant/state.ts";
import { storedState } from "./participant/stored.ts";
import { testCohort } from "./testing/cohort.ts";
import { begin, everybodyAnswers, react, runTo, type World } from "./testing/conduct.ts";
import {
  advertisementOf,
  changed,
  consistencyWith,
  flipBit,
  freshKeys,
  keysWith,
  sharesWith,
  signatureOf,
  unmaskWith,
  without,
} from "./testing/lies.ts";
import { inputBody } from "./transcript.ts";

// n = 6, t = 5: one member may be lost, and the coordinator has one of the members on its side.
const cohort = testCohort(6);
const VICTIM = 2;
const OTHER = 4;
const ACCOMPLICE = 6;
const STRANGER = 7;

const earlier = testCohort(6, { seed: "earlier" });
const otherAdapter = testCohort(6, { adapter: sha256(utf8("an adapter that only the victim is given")) });

describe("List1", () => {
  const world = runTo(cohort, "share");
  const listOf = (of: typeof cohort) =>
    (requestFor(of.terms, runTo(of, "share").state, VICTIM)!.value as { advertised: Advertisement[] }).advertised;
  const old = listOf(earlier);
  const foreign = listOf(otherAdapter);
  const at = (list: readonly Advertisement[], index: number) => list.find((entry) => entry.index === index)!;

  test.each<{ says: string; code: SecaggCode; lie: (list: Advertisement[]) => Advertisement[] }>([
    {
      says: "keys of the coordinator in another member's place",
      code: "KeysInvalid",
      lie: (list) => changed(list, OTHER, freshKeys(OTHER, "coordinator")),
    },
    {
      says: "one mask key of the coordinator in another member's place",
      code: "KeysInvalid",
      lie: (list) => changed(list, OTHER, { sPk: freshKeys(OTHER, "coordinator").sPk }),
    },
    {
      says: "two members' keys swapped",
      code: "KeysInvalid",
      lie: (list) =>
        changed(changed(list, 3, { ...at(list, OTHER), index: 3 }), OTHER, { ...at(list, 3), index: OTHER }),
    },
    {
      says: "a member's keys replayed from a session with another parent adapter",
      code: "KeysInvalid",
      lie: (list) => changed(list, OTHER, at(foreign, OTHER)),
    },
    {
      says: "everybody else's keys from a session with another parent adapter",
      code: "KeysInvalid",
      lie: (list) => list.map((entry) => (entry.index === VICTIM ? entry : at(foreign, entry.index))),
    },
    {
      says: "the victim's own keys replayed from an earlier session",
      code: "OwnKeysDiffer",
      lie: (list) => changed(list, VICTIM, at(old, VICTIM)),
    },
    { says: "the victim left out", code: "OwnKeysDiffer", lie: (list) => without(list, VICTIM) },
    {
      says: "the victim's signature a bit off",
      code: "OwnKeysDiffer",
      lie: (list) => changed(list, VICTIM, { signature: flipBit(at(list, VICTIM).signature) }),
    },
    {
      says: "an accomplice that signs the victim's mask key as its own",
      code: "KeysInvalid",
      lie: (list) =>
        changed(list, ACCOMPLICE, advertisementOf(cohort, { ...at(list, ACCOMPLICE), sPk: at(list, VICTIM).sPk })),
    },
    {
      says: "an accomplice that signs another's commitment as its own",
      code: "KeysInvalid",
      lie: (list) =>
        changed(list, ACCOMPLICE, advertisementOf(cohort, { ...at(list, ACCOMPLICE), cmB: at(list, OTHER).cmB })),
    },
    {
      says: "an accomplice whose key is a point of a small subgroup",
      code: "KeysInvalid",
      lie: (list) =>
        changed(list, ACCOMPLICE, advertisementOf(cohort, { ...at(list, ACCOMPLICE), sPk: new Uint8Array(32) })),
    },
    { says: "U1 shrunken below t", code: "TooFewMembers", lie: (list) => list.filter(({ index }) => index < 5) },
    {
      says: "a member that is not in the cohort",
      code: "RosterDiffers",
      lie: (list) => [...list.slice(0, -1), advertisementOf(cohort, freshKeys(STRANGER, "stranger"))],
    },
    {
      says: "a member of index 0",
      code: "RosterDiffers",
      lie: (list) => [advertisementOf(cohort, freshKeys(0, "nobody")), ...without(list, 1)],
    },
    {
      says: "a member twice",
      code: "RosterDiffers",
      lie: (list) => [...list.slice(0, 4), at(list, OTHER), at(list, 5)],
    },
    {
      says: "the victim twice",
      code: "RosterDiffers",
      lie: (list) => [at(list, 1), at(list, VICTIM), at(list, VICTIM), ...list.slice(3)],
    },
  ])("$says", ({ lie, code }) => {
    expectAbort(world, VICTIM, keysWith(request(world, VICTIM), lie), code);
  });

  test("different parent adapters for two halves of the cohort: nobody shares a key", () => {
    const [left, right] = [world, runTo(otherAdapter, "share")];
    const mixed = keysWith(request(world, 1), (list) =>
      list.map((entry) => (entry.index <= 3 ? entry : at(foreign, entry.index))),
    );
    for (const index of [1, 2, 3]) expectAbort(left, index, mixed, "KeysInvalid");
    for (const index of [4, 5, 6]) expectAbort(right, index, mixed, "KeysInvalid", otherAdapter);
  });

  test("a lowered threshold: a coordinator that is content with three members meets participants that are not", () => {
    const lowered = { ...cohort.terms, threshold: 3 };
    const { state, participants } = everybodyAnswers(cohort, begin());
    const closed = { state: closeStep(lowered, state, [1, 2, 3]), participants, uploads: new Map() };
    for (const index of [1, 2, 3])
      expectAbort(closed, index, requestFor(lowered, closed.state, index)!, "TooFewMembers");
  });
});

describe("List2", () => {
  const world = runTo(cohort, "mask", { advertise: [ACCOMPLICE] });
  const full = runTo(cohort, "mask");
  const old = (requestFor(earlier.terms, runTo(earlier, "mask").state, VICTIM) as { value: ShareList }).value;
  const ackOf = (list: ShareList, index: number) => list.acks.find((entry) => entry.index === index)!;
  const shareOf = (list: ShareList, index: number) => list.shares.find((entry) => entry.index === index)!;
  const resealed = (list: ShareList, index: number, ciphertext: Uint8Array): ShareList => ({
    ...list,
    shares: changed(list.shares, index, { ciphertext }),
  });
  const leftOut = (list: ShareList, index: number): ShareList => ({
    acks: without(list.acks, index),
    shares: without(list.shares, index),
  });

  test.each<{ says: string; code: SecaggCode; accused?: string[]; lie: (list: ShareList) => ShareList }>([
    {
      says: "U2 shrunken below t",
      code: "TooFewMembers",
      lie: (list) => leftOut(leftOut(list, OTHER), 5),
    },
    { says: "the victim left out of U2", code: "RosterDiffers", lie: (list) => leftOut(list, VICTIM) },
    {
      says: "a member whose ack is there and whose shares are not",
      code: "RosterDiffers",
      lie: (list) => ({ ...list, shares: without(list.shares, OTHER) }),
    },
    {
      says: "a member whose shares are there and whose ack is not",
      code: "RosterDiffers",
      lie: (list) => ({ ...list, acks: without(list.acks, OTHER) }),
    },
    {
      says: "a member twice",
      code: "RosterDiffers",
      lie: (list) => ({ ...list, acks: [...list.acks.slice(0, 5), ackOf(list, 5)] }),
    },
    {
      says: "a member that is not in the cohort",
      code: "RosterDiffers",
      lie: (list) => ({
        acks: [...list.acks, { ...ackOf(list, OTHER), index: STRANGER }],
        shares: [...list.shares, { ...shareOf(list, OTHER), index: STRANGER }],
      }),
    },
    {
      says: "shares from the victim itself",
      code: "RosterDiffers",
      lie: (list) => ({
        ...list,
        shares: [...list.shares, { ...shareOf(list, 1), index: VICTIM }].sort((a, b) => a.index - b.index),
      }),
    },
    {
      says: "an ack of an earlier session",
      code: "TranscriptDiffers",
      lie: (list) => ({ ...list, acks: changed(list.acks, OTHER, ackOf(old, OTHER)) }),
    },
    {
      says: "one member's ack as another's",
      code: "TranscriptDiffers",
      lie: (list) => ({ ...list, acks: changed(list.acks, OTHER, { signature: ackOf(list, 3).signature }) }),
    },
    {
      says: "sealed shares of an earlier session",
      code: "BadShare",
      lie: (list) => resealed(list, OTHER, shareOf(old, OTHER).ciphertext),
    },
    {
      says: "one member's sealed shares as another's",
      code: "BadShare",
      lie: (list) => resealed(list, OTHER, shareOf(list, 3).ciphertext),
    },
    {
      says: "shares that the victim itself sealed for that member",
      code: "BadShare",
      lie: (list) => resealed(list, OTHER, sealedBy(VICTIM, OTHER)),
    },
    {
      says: "shares that were sealed for somebody else",
      code: "BadShare",
      lie: (list) => resealed(list, OTHER, sealedBy(OTHER, 3)),
    },
    {
      says: "a truncated ciphertext",
      code: "BadShare",
      lie: (list) => resealed(list, OTHER, shareOf(list, OTHER).ciphertext.subarray(0, 79)),
    },
  ])("$says", ({ lie, code }) => {
    expectAbort(full, VICTIM, sharesWith(request(full, VICTIM), lie), code);
  });

  test("any bit of a ciphertext flipped: the sender is accused", () => {
    for (let bit = 0; bit < 8 * 80; bit += 7) {
      const lie = sharesWith(request(full, VICTIM), (list) =>
        resealed(list, OTHER, flipBit(shareOf(list, OTHER).ciphertext, bit)),
      );
      const next = expectAbort(full, VICTIM, lie, "BadShare");
      expect(next).toMatchObject({ accused: ["clinic-004"] });
    }
  });

  test("a member in U2 that was not in U1", () => {
    const lie = sharesWith(request(world, VICTIM), (list) => ({
      acks: [...list.acks, { index: ACCOMPLICE, signature: signatureOf(ACCOMPLICE, "t1", t1Of(world)) }],
      shares: [...list.shares, { index: ACCOMPLICE, ciphertext: sealedBy(OTHER, VICTIM) }],
    }));
    expectAbort(world, VICTIM, lie, "RosterDiffers");
  });

  test("keys once more, with another U1", () => {
    const keys = request(runTo(cohort, "share"), VICTIM);
    expectAbort(
      full,
      VICTIM,
      keysWith(keys, (list) => without(list, ACCOMPLICE)),
      "SecondRequest",
    );
  });

  test("the contributions asked for before the victim has masked", () => {
    expectAbort(full, VICTIM, request(runTo(cohort, "consistency"), VICTIM), "OutOfOrder");
  });

  const sealedBy = (from: number, to: number) => {
    const { state } = full;
    if (state.step !== "mask") throw new Error(state.step);
    return state.shared.get(from)!.shares.find(({ index }) => index === to)!.ciphertext;
  };
});

describe("the question of M3", () => {
  const world = runTo(cohort, "consistency");
  const partial = runTo(cohort, "consistency", { share: [ACCOMPLICE] });
  const inputOf = (request: ConsistencyRequest, index: number) =>
    request.inputs.find((entry) => entry.index === index)!;

  test.each<{ says: string; code: SecaggCode; lie: (request: ConsistencyRequest) => ConsistencyRequest }>([
    {
      says: "a U2 smaller than the one that the victim masked for",
      code: "SurvivorsInvalid",
      lie: ({ u2, inputs }) => ({ u2: u2.slice(0, -1), inputs: inputs.slice(0, -1) }),
    },
    {
      says: "U3 shrunken below t",
      code: "TooFewMembers",
      lie: ({ u2, inputs }) => ({ u2, inputs: inputs.slice(0, 4) }),
    },
    {
      says: "the victim among the lost",
      code: "SurvivorsInvalid",
      lie: ({ u2, inputs }) => ({ u2, inputs: without(inputs, VICTIM) }),
    },
    {
      says: "a member twice among the inputs",
      code: "SurvivorsInvalid",
      lie: ({ u2, inputs }) => ({ u2, inputs: [...inputs.slice(0, 4), inputs[3]!, inputs[4]!] }),
    },
    {
      says: "the input of somebody who is not in the cohort",
      code: "SurvivorsInvalid",
      lie: ({ u2, inputs }) => ({ u2, inputs: [...inputs.slice(0, 5), { ...inputs[5]!, index: STRANGER }] }),
    },
    {
      says: "another vector in the victim's place",
      code: "InputInvalid",
      lie: ({ u2, inputs }) => ({ u2, inputs: changed(inputs, VICTIM, { root: sha256(utf8("forged")) }) }),
    },
    {
      says: "another vector in another's place",
      code: "InputInvalid",
      lie: ({ u2, inputs }) => ({ u2, inputs: changed(inputs, OTHER, { root: sha256(utf8("forged")) }) }),
    },
    {
      says: "an accomplice's vector that is longer than planned",
      code: "InputInvalid",
      lie: (request) => ({
        u2: request.u2,
        inputs: changed(request.inputs, ACCOMPLICE, {
          signature: signatureOf(
            ACCOMPLICE,
            "input",
            inputBody(t1Of(world), inputOf(request, ACCOMPLICE).root, 1 << 20),
          ),
        }),
      }),
    },
    {
      says: "an accomplice's vector of another session",
      code: "InputInvalid",
      lie: (request) => ({
        u2: request.u2,
        inputs: changed(request.inputs, ACCOMPLICE, {
          signature: signatureOf(
            ACCOMPLICE,
            "input",
            inputBody(t1Of(runTo(earlier, "share")), inputOf(request, ACCOMPLICE).root, cohort.terms.byteLength),
          ),
        }),
      }),
    },
  ])("$says", ({ lie, code }) => {
    expectAbort(world, VICTIM, consistencyWith(request(world, VICTIM), lie), code);
  });

  test("a U2 larger than the one that the victim masked for", () => {
    const lie = consistencyWith(request(partial, VICTIM), ({ u2, inputs }) => ({ u2: [...u2, ACCOMPLICE], inputs }));
    expectAbort(partial, VICTIM, lie, "SurvivorsInvalid");
  });

  test("a U3 with a member that is not in U2", () => {
    const lie = consistencyWith(request(partial, VICTIM), ({ u2, inputs }) => ({
      u2,
      inputs: [...inputs, { ...inputs[0]!, index: ACCOMPLICE }],
    }));
    expectAbort(partial, VICTIM, lie, "SurvivorsInvalid");
  });

  test("the shares once more, with another U2: the victim would mask a second time", () => {
    const shares = request(runTo(cohort, "mask"), VICTIM);
    const lie = sharesWith(shares, (list) => ({
      acks: without(list.acks, ACCOMPLICE),
      shares: without(list.shares, ACCOMPLICE),
    }));
    expectAbort(world, VICTIM, lie, "SecondRequest");
  });

  test("M4 asked for at once: no signature of the victim, no shares", () => {
    expectAbort(world, VICTIM, request(runTo(cohort, "unmask"), VICTIM), "OutOfOrder");
  });
});

describe("the question of M4", () => {
  const world = runTo(cohort, "unmask");
  const partial = runTo(cohort, "unmask", { mask: [ACCOMPLICE] });

  test.each<{ says: string; code: SecaggCode; lie: (signatures: IndexedSignature[]) => IndexedSignature[] }>([
    { says: "fewer than t signatures", code: "TooFewSignatures", lie: (signatures) => signatures.slice(0, 4) },
    { says: "none", code: "TooFewSignatures", lie: () => [] },
    {
      says: "t signatures, one of them twice",
      code: "SurvivorsInvalid",
      lie: (signatures) => [...signatures.slice(0, 4), signatures[3]!],
    },
    {
      says: "a signature of somebody who is not in the cohort",
      code: "SurvivorsInvalid",
      lie: (signatures) => [...signatures.slice(0, 4), { ...signatures[4]!, index: STRANGER }],
    },
    {
      says: "t signatures, one of them on another list",
      code: "TranscriptDiffers",
      lie: (signatures) =>
        changed(signatures, ACCOMPLICE, { signature: signatureOf(ACCOMPLICE, "t2", sha256(utf8("another"))) }),
    },
    {
      says: "one member's signature as another's",
      code: "TranscriptDiffers",
      lie: (signatures) => changed(signatures, OTHER, { signature: signatures[0]!.signature }),
    },
  ])("$says", ({ lie, code }) => {
    expectAbort(world, VICTIM, unmaskWith(request(world, VICTIM), lie), code);
  });

  test("a signature of a member that contributed nothing", () => {
    const lie = unmaskWith(request(partial, VICTIM), (signatures) => [
      ...without(signatures, OTHER),
      { index: ACCOMPLICE, signature: signatureOf(ACCOMPLICE, "t2", t2Of(partial)) },
    ]);
    expectAbort(partial, VICTIM, lie, "SurvivorsInvalid");
  });

  test("a member first alive and then dropped: the consistency round replayed with another U3", () => {
    const dropped = request(runTo(cohort, "consistency", { mask: [OTHER] }), VICTIM);
    expectAbort(world, VICTIM, dropped, "SecondRequest");
  });

  test("a member first dropped and then alive", () => {
    const dropped = runTo(cohort, "unmask", { mask: [OTHER] });
    expectAbort(dropped, VICTIM, request(runTo(cohort, "consistency"), VICTIM), "SecondRequest");
  });

  test("half of the cohort told that a member is alive, the others that it is dropped: neither half releases anything", () => {
    const alive = runTo(cohort, "unmask");
    const dropped = runTo(cohort, "unmask", { mask: [OTHER] });
    const accomplice = (of: World) => ({ index: ACCOMPLICE, signature: signatureOf(ACCOMPLICE, "t2", t2Of(of)) });
    const halves = [
      { world: alive, told: [1, 2, 4] },
      { world: dropped, told: [3, 5] },
    ];
    for (const { world: half, told } of halves) {
      for (const index of told) {
        const lie = unmaskWith(request(half, index), (signatures) => [
          ...signatures.filter((entry) => told.includes(entry.index)),
          accomplice(half),
        ]);
        expectAbort(half, index, lie, "TooFewSignatures");
      }
    }
  });
});

describe("after the shares are out", () => {
  const world = everybodyAnswers(cohort, runTo(cohort, "unmask"));
  const released = world.participants.get(VICTIM)!;
  const ask = (message: CoordinatorMessage) => receive(cohort.deps(VICTIM), released, message);

  test("the same question gets the same bytes", () => {
    expect(released.kind).toBe("Released");
    expect(ask(request(runTo(cohort, "unmask"), VICTIM))).toEqual({
      kind: "repeat",
      message: { $case: "unmask", value: (released as Extract<ParticipantState, { kind: "Released" }>).message },
    });
  });

  test("a second unmask request, for another U3 that t members have signed, is refused", () => {
    const second = request(runTo(cohort, "unmask", { mask: [OTHER] }), VICTIM);
    expect(ask(second)).toMatchObject({ kind: "refuse", code: "SecondRequest" });
  });

  test("the consistency round replayed with another set is refused", () => {
    const second = request(runTo(cohort, "consistency", { mask: [OTHER] }), VICTIM);
    expect(ask(second)).toMatchObject({ kind: "refuse", code: "SecondRequest" });
  });

  test("nothing but M4 is left of the session", () => expect(storedState(released).secrets).toBeUndefined());
});

/** What an honest coordinator would ask of this member now. */
function request(world: World, index: number): CoordinatorMessage {
  const { state } = world;
  const honest = requestFor(cohort.terms, "answers" in state ? { ...state, answers: new Map() } : state, index);
  if (!honest) throw new Error(`step ${state.step} asks nothing of member ${index}`);
  return honest;
}

/** Shows the lie to the member; then everything that an honest coordinator would say, to see that it stays silent. */
function expectAbort(
  world: World,
  index: number,
  lie: CoordinatorMessage,
  code: SecaggCode,
  of = cohort,
): ParticipantState {
  const before = world.participants.get(index)!;
  const { next, message, upload } = react(of, index, before, lie);
  expect(next).toMatchObject({ kind: "Aborted", from: before.kind, code });
  expect(message).toBeUndefined();
  expect(upload).toBeUndefined();
  expectNoSecret(before, next);
  for (const step of ["share", "mask", "consistency", "unmask"] as const) {
    const later = react(of, index, next, request(runTo(of, step), index));
    expect(later).toEqual({ next, message: undefined, upload: undefined });
  }
  return next;
}

function expectNoSecret(before: ParticipantState, after: ParticipantState): void {
  const secrets = "secrets" in before ? bytesIn(before.secrets) : [];
  const stored = storedState(after);
  expect(secrets.length).toBeGreaterThan(0);
  expect(stored.secrets).toBeUndefined();
  for (const secret of secrets) expect(stored.open).not.toContain(Buffer.from(secret).toString("base64"));
}

function bytesIn(value: unknown): Uint8Array[] {
  if (value instanceof Uint8Array) return [value];
  return typeof value === "object" && value !== null ? Object.values(value).flatMap(bytesIn) : [];
}

function t1Of({ state }: World): Uint8Array {
  if (!("t1" in state)) throw new Error(state.step);
  return state.t1;
}

function t2Of({ state }: World): Uint8Array {
  if (!("t2" in state)) throw new Error(state.step);
  return state.t2;
}
