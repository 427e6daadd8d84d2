/**
 * A coordinator that lies when the sum is to be opened, against real participants (secure-aggregation.md §3, §6): a participant that could be
 * harmed by it ends its session and releases no share; once its shares are out it answers no other question.
 */
import { describe, expect, test } from "vitest";
import { sha256, utf8 } from "./bytes.ts";
import type { SecaggCode } from "./faults.ts";
import type { ConsistencyRequest, CoordinatorMessage, IndexedSignature } from "./messages.ts";
import { receive } from "./participant/session.ts";
import type { ParticipantState } from "./participant/state.ts";
import { storedState } from "./participant/stored.ts";
import { everybodyAnswers, runTo, type World } from "./testing/conduct.ts";
import { changed, consistencyWith, sharesWith, signatureOf, unmaskWith, without } from "./testing/lies.ts";
import {
  ACCOMPLICE,
  cohort,
  earlier,
  expectAbort,
  OTHER,
  request,
  STRANGER,
  t1Of,
  t2Of,
  VICTIM,
} from "./testing/victim.ts";
import { inputBody } from "./transcript.ts";

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
