/**
 * Whether a message is one that has been taken already: an agent repeats what was not acknowledged, and a step may have ended meanwhile.
 */
import { sameBytes } from "../bytes.ts";
import type { ParticipantMessage, SignedInput } from "../messages.ts";
import type { CohortState } from "./states.ts";

export type Answer = ParticipantMessage | { $case: "input"; value: SignedInput };

/** What this member has answered to the step of that message, as far as it counted; undefined: nothing. */
export function heldAnswer(state: CohortState, index: number, kind: Answer["$case"]): Answer | undefined {
  switch (kind) {
    case "advertise":
      return held(kind, state.step === "advertise" ? state.answers.get(index) : byIndex(state.u1, index));
    case "share":
      if (state.step === "share") return held(kind, state.answers.get(index));
      return "shared" in state ? held(kind, state.shared.get(index)) : undefined;
    case "input":
      if (state.step === "mask") return held(kind, state.answers.get(index));
      return "u3" in state ? held(kind, byIndex(state.u3, index)) : undefined;
    case "consistency":
      if (state.step === "consistency") return held(kind, state.answers.get(index));
      return "signatures" in state ? held(kind, byIndex(state.signatures, index)) : undefined;
    case "unmask":
      return "signatures" in state ? held(kind, state.answers.get(index)) : undefined;
  }
}

export function sameAnswer(held: Answer, given: Answer): boolean {
  const a = fieldsOf(held);
  const b = fieldsOf(given);
  return (
    a.length === b.length &&
    a.every((field, at) => {
      const other = b[at]!;
      return typeof field === "object" && typeof other === "object" ? sameBytes(field, other) : field === other;
    })
  );
}

const byIndex = <T extends { index: number }>(list: readonly T[], index: number): T | undefined =>
  list.find((entry) => entry.index === index);

const held = <K extends Answer["$case"]>(
  $case: K,
  value: Extract<Answer, { $case: K }>["value"] | undefined,
): Answer | undefined => (value === undefined ? undefined : ({ $case, value } as Answer));

/** Field by field, because two decodings of the same bytes may differ in class (Buffer, Uint8Array). */
function fieldsOf({ $case, value }: Answer): (string | number | Uint8Array)[] {
  switch ($case) {
    case "advertise":
      return [$case, value.index, value.cPk, value.sPk, value.cmB, value.signature];
    case "share":
      return [$case, value.ack, ...value.shares.flatMap(({ index, ciphertext }) => [index, ciphertext])];
    case "input":
      return [$case, value.index, value.root, value.signature];
    case "consistency":
      return [$case, value.signature];
    case "unmask":
      return [
        $case,
        ...value.shares.flatMap(({ index, share }) => [index, share?.$case ?? "", share?.value ?? new Uint8Array()]),
      ];
  }
}
