/** M1 and its refusals: what a coordinator may not do to the list of keys. */
import { describe, expect, test } from "vitest";
import { hex } from "../bytes.ts";
import { signedBytes, verifySigned } from "../key-agreement.ts";
import type { Advertisement, CoordinatorMessage } from "../messages.ts";
import { decryptShares } from "../share-encryption.ts";
import { combine } from "../shares.ts";
import { advertiseBody, commitmentTo, t1 } from "../transcript.ts";
import type { Outcome } from "./session.ts";
import { storedState } from "./stored.ts";
import { Cohort, flipped, flood, termsOf } from "./testing/cohort.ts";

const VICTIM = 2;

const advertised = (size = 5): Cohort => {
  const cohort = new Cohort({ size });
  cohort.u1 = cohort.players.map((_, at) => at + 1);
  return cohort;
};

/** What the victim does with the honest list after `change`. */
function shown(change: (list: Advertisement[], cohort: Cohort) => Advertisement[], cohort = advertised()): Outcome {
  const message: CoordinatorMessage = {
    $case: "keys",
    value: { advertised: change(cohort.keys().value.advertised, cohort) },
  };
  return cohort.show(VICTIM, message);
}

const abortedWith = (code: string, accused: string[] = []) => ({
  kind: "abort",
  next: { kind: "Aborted", from: "Advertised", code, accused, message: expect.any(String) },
});

/** A list entry in place of another. */
const replaced = (list: Advertisement[], index: number, change: (entry: Advertisement) => Advertisement) =>
  list.map((entry) => (entry.index === index ? change(entry) : entry));

describe("an honest list", () => {
  test("gives one ciphertext to each other member, and the shares in them give the secrets back", () => {
    const cohort = advertised();
    const before = cohort.player(VICTIM).state;
    cohort.share();
    const state = cohort.player(VICTIM).state;
    if (before.kind !== "Advertised" || state.kind !== "Shared") throw new Error(state.kind);
    expect(state.message.shares.map(({ index }) => index)).toEqual([1, 3, 4, 5]);
    const opened = state.message.shares.map(({ index, ciphertext }) => {
      const receiver = cohort.player(index).state;
      if (receiver.kind !== "Shared") throw new Error(receiver.kind);
      const channel = {
        secretKey: receiver.secrets.cSk,
        publicKey: before.message.cPk,
        t1: state.t1,
        from: VICTIM,
        to: index,
      };
      return { x: index, ...decryptShares(channel, ciphertext)! };
    });
    const self = opened.map(({ x, selfShare }) => ({ x, share: selfShare }));
    const own = { x: VICTIM, share: state.secrets.ownSelfShare };
    expect(hex(combine(self))).toBe(hex(before.secrets.b));
    expect(hex(combine([own, ...self.slice(1)]))).toBe(hex(before.secrets.b));
    expect(hex(commitmentTo(combine(self)))).toBe(hex(before.message.cmB));
    expect(hex(combine(opened.map(({ x, pairShare }) => ({ x, share: pairShare }))))).toBe(hex(before.secrets.sSk));
  });

  test("is acknowledged by a signature on T1 that all share", () => {
    const cohort = advertised().share();
    const transcript1 = t1(cohort.terms.c0, cohort.keys().value.advertised);
    for (const { index, signature } of cohort.u1.map((member) => cohort.ack(member))) {
      expect(verifySigned(cohort.terms.members[index - 1]!.identity, "t1", transcript1, signature), `${index}`).toBe(
        true,
      );
    }
  });

  test("may lack members, down to the threshold", () => {
    const outcome = shown((list) => list.filter(({ index }) => index !== 5));
    expect(outcome).toMatchObject({ kind: "send", message: { $case: "share" } });
  });
});

describe("the roster", () => {
  test("aborts when the coordinator lists a member twice", () => {
    expect(shown((list) => [list[0]!, ...list])).toEqual(abortedWith("RosterDiffers"));
  });

  test("aborts when the coordinator lists a member twice under two indices", () => {
    const outcome = shown((list) => replaced(list, 4, () => ({ ...list[2]!, index: 4 })));
    expect(outcome).toEqual(abortedWith("KeysInvalid"));
  });

  test("aborts when the coordinator lists members out of order", () => {
    expect(shown((list) => list.toReversed())).toEqual(abortedWith("RosterDiffers"));
  });

  test.each([0, 6, -1, 1.5, 2 ** 32 + 1, Number.NaN])(
    "aborts when the coordinator lists the unknown member %d",
    (index) => {
      expect(shown((list) => [...list.slice(0, 4), { ...list[4]!, index }])).toEqual(abortedWith("RosterDiffers"));
    },
  );

  test("aborts when the coordinator lists a member 0 before the others", () => {
    expect(shown((list) => [{ ...list[0]!, index: 0 }, ...list.slice(1)])).toEqual(abortedWith("RosterDiffers"));
  });

  test("aborts when the coordinator leaves out this participant", () => {
    expect(shown((list) => list.filter(({ index }) => index !== VICTIM))).toEqual(abortedWith("OwnKeysDiffer"));
  });

  test("aborts when the coordinator lists fewer than the threshold", () => {
    expect(shown((list) => list.slice(0, 3))).toEqual(abortedWith("TooFewMembers"));
  });

  test("does not let the threshold follow a small list down", () => {
    // Four of ten: ⌊2·4/3⌋ + 1 = 3 would be enough of four, and 7 are of ten.
    const outcome = shown((list) => list.slice(0, 4), advertised(10));
    expect(outcome).toEqual(abortedWith("TooFewMembers"));
  });

  test("refuses an endless list before it looks at one key or signature", () => {
    const outcome = shown(flood);
    expect(outcome).toEqual(abortedWith("RosterDiffers"));
    expect(outcome).toMatchObject({ next: { message: "the coordinator listed 100000 members of a cohort of 5" } });
  });
});

describe("keys", () => {
  test("aborts when the coordinator swaps in keys of its own", () => {
    const stranger = new Cohort({ size: 5, seed: "coordinator" }).advertisement(3);
    const outcome = shown((list) => replaced(list, 3, (entry) => ({ ...stranger, signature: entry.signature })));
    expect(outcome).toEqual(abortedWith("KeysInvalid"));
  });

  test.each(["cPk", "sPk", "cmB"] as const)("aborts when one bit of a member's %s is changed", (field) => {
    const outcome = shown((list) => replaced(list, 3, (entry) => ({ ...entry, [field]: flipped(entry[field], 9) })));
    expect(outcome).toEqual(abortedWith("KeysInvalid"));
  });

  test("aborts when the coordinator signs for a member with another member's key", () => {
    const cohort = advertised();
    const fresh = new Cohort({ size: 5, seed: "coordinator" }).advertisement(3);
    const signature = cohort.player(4).deps.sign(signedBytes("advertise", advertiseBody(cohort.terms.c0, fresh)));
    expect(shown((list) => replaced(list, 3, () => ({ ...fresh, signature })), cohort)).toEqual(
      abortedWith("KeysInvalid"),
    );
  });

  test("aborts when the coordinator replays keys of another round", () => {
    const earlier = new Cohort({ size: 5, context: "the round before" });
    expect(shown((list) => replaced(list, 3, () => earlier.advertisement(3)))).toEqual(abortedWith("KeysInvalid"));
  });

  test("aborts when another member was given another parent adapter", () => {
    const other = new Cohort({ size: 5, context: "another parent" });
    expect(shown((list) => replaced(list, 1, () => other.advertisement(1)))).toEqual(abortedWith("KeysInvalid"));
  });

  test("aborts when two members have the same key, even if both signed it", () => {
    const cohort = advertised();
    const outcome = shown((list) => {
      const copy = { ...list[2]!, index: 4 };
      const signature = cohort.player(4).deps.sign(signedBytes("advertise", advertiseBody(cohort.terms.c0, copy)));
      return replaced(list, 4, () => ({ ...copy, signature }));
    }, cohort);
    expect(outcome).toEqual(abortedWith("KeysInvalid"));
  });

  test("aborts when a member uses one key for both purposes", () => {
    const cohort = advertised();
    const outcome = shown((list) => {
      const twice = { ...list[3]!, sPk: list[3]!.cPk };
      const signature = cohort.player(4).deps.sign(signedBytes("advertise", advertiseBody(cohort.terms.c0, twice)));
      return replaced(list, 4, () => ({ ...twice, signature }));
    }, cohort);
    expect(outcome).toEqual(abortedWith("KeysInvalid"));
  });

  test.each(["cPk", "sPk"] as const)(
    "aborts when a member signs a point of low order as its %s, and accuses it",
    (field) => {
      const cohort = advertised();
      const outcome = shown((list) => {
        const weak = { ...list[3]!, [field]: Uint8Array.of(1, ...new Uint8Array(31)) };
        const signature = cohort.player(4).deps.sign(signedBytes("advertise", advertiseBody(cohort.terms.c0, weak)));
        return replaced(list, 4, () => ({ ...weak, signature }));
      }, cohort);
      expect(outcome).toEqual(abortedWith("KeysInvalid", ["clinic-004"]));
    },
  );

  test.each(["cPk", "sPk", "cmB", "signature"] as const)("aborts when a member's %s has another length", (field) => {
    const outcome = shown((list) => replaced(list, 3, (entry) => ({ ...entry, [field]: entry[field].subarray(1) })));
    expect(outcome).toEqual(abortedWith("KeysInvalid"));
  });

  test.each(["cPk", "sPk", "cmB", "signature"] as const)("aborts when its own %s comes back changed", (field) => {
    const outcome = shown((list) => replaced(list, VICTIM, (entry) => ({ ...entry, [field]: flipped(entry[field]) })));
    expect(outcome).toEqual(abortedWith("OwnKeysDiffer"));
  });
});

test("an abort leaves no secret behind", () => {
  const outcome = shown((list) => list.slice(0, 3));
  if (outcome.kind !== "abort") throw new Error(outcome.kind);
  expect(storedState(outcome.next).secrets).toBeUndefined();
});

test("a state of another plan is not gone on with", () => {
  const cohort = advertised();
  const { deps, state } = cohort.player(VICTIM);
  const other = { ...deps, terms: termsOf({ size: 5, context: "another plan" }) };
  cohort.players[VICTIM - 1] = { deps: other, state };
  expect(() => cohort.show(VICTIM, cohort.keys())).toThrow("another plan");
});
