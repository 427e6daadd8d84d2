/**
 * A coordinator that lies while keys and shares are exchanged, against real participants (secure-aggregation.md §3, §6): whatever it shows, a
 * participant that could be harmed by it ends its session, sends nothing more, and has no secret left. That the ledger and a person hear of it is
 * the agent's test.
 */
import { describe, expect, test } from "vitest";
import { closeStep, requestFor } from "./coordinator/cohort.ts";
import type { SecaggCode } from "./faults.ts";
import type { Advertisement, ShareList } from "./messages.ts";
import { begin, everybodyAnswers, runTo } from "./testing/conduct.ts";
import {
  advertisementOf,
  changed,
  flipBit,
  freshKeys,
  keysWith,
  sharesWith,
  signatureOf,
  without,
} from "./testing/lies.ts";
import {
  ACCOMPLICE,
  cohort,
  earlier,
  expectAbort,
  OTHER,
  otherAdapter,
  request,
  STRANGER,
  t1Of,
  VICTIM,
} from "./testing/victim.ts";

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
