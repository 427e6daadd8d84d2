import { expect, test } from "vitest";
import type { ParticipantState } from "../../secagg/participant/state.ts";
import { wipe } from "./wipe.ts";

const bytes = (fill: number) => new Uint8Array(32).fill(fill);

test("a secret that the next state still holds stays, every other one is overwritten", () => {
  const [selfShare, pairShare, own] = [bytes(1), bytes(2), bytes(3)];
  const shares = [
    { index: 1, selfShare: own },
    { index: 2, selfShare, pairShare },
  ];
  const common = { t1: bytes(9), sharesRequest: bytes(8), u3: [1], t2: bytes(7) };
  const signed: ParticipantState = {
    kind: "Signed",
    ...common,
    message: { signature: new Uint8Array(64) },
    secrets: { shares },
  };
  const released: ParticipantState = {
    kind: "Released",
    ...common,
    message: {
      shares: [
        { index: 1, share: { $case: "selfShare", value: own } },
        { index: 2, share: { $case: "pairShare", value: pairShare } },
      ],
    },
  };
  wipe(signed, released);
  expect([selfShare, pairShare, own]).toEqual([bytes(0), bytes(2), bytes(3)]);
  wipe(signed, undefined);
  expect([selfShare, pairShare, own]).toEqual([bytes(0), bytes(0), bytes(0)]);
});
