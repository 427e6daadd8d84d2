/**
 * What each tensor of a federation is clipped to in its next secure round (secure-aggregation.md §5; journal space "clips").
 * clipNorm until a secure round has published a version; from then on 6·RMS_t of the last one that did:
 *   RMS_t² = C_t² · Σ energy_t / ΣW, known from the sum without seeing anybody's values.
 * Holds: 0 < C_t <= clipNorm. A round's clips lie under its uid from its candidate on and become the federation's in the commit that
 *   activates its version: a restart between the two needs no sum for it.
 */
import { z } from "zod";
import type { Journal, Write } from "../journal/journal.ts";
import type { Plan } from "../round/plan.ts";

const SPACE = "clips";
/** σ: what is cut off is then less than 1 in 10⁸ of a normal tensor (secure-aggregation.md §5). */
const CLIP_RMS = 6;
/** A plan has up to 20,000 of them; the clip need not be exact, only the same for everybody. */
const DIGITS = 6;

const clipsSchema = z.array(z.strictObject({ tensor: z.string(), clip: z.string() }));
type Clips = z.infer<typeof clipsSchema>;

/**
 * The clips of a federation's next round.
 * @param federation  its name
 * @param clipNorm    of the round's settings, a decimal
 * @returns a decimal for each tensor, in their order
 */
export async function clipsFor(
  journal: Journal,
  federation: string,
  tensors: ReadonlyArray<{ name: string }>,
  clipNorm: string,
): Promise<string[]> {
  const kept = await journal.get(SPACE, federationKey(federation));
  const known = new Map(kept ? decode(kept).map(({ tensor, clip }) => [tensor, clip]) : []);
  return tensors.map(({ name }) => {
    const clip = known.get(name);
    // clipNorm may have been lowered since.
    return clip !== undefined && Number(clip) < Number(clipNorm) ? clip : clipNorm;
  });
}

/**
 * Keeps what a round's sum says about the next round's clips, for clipWrites(). With the candidate: the sum is gone after a restart.
 * @param result  ΣW, and Σ energy per tensor of the plan
 */
export function keepClips(plan: Plan, uid: string, result: { weight: number; energy: number[] }): Write[] {
  const { clipNorm } = plan.aggregation;
  const clips: Clips = plan.tensors.map(({ name }, i) => ({
    tensor: name,
    clip: nextClip(plan.secure!.scales[i]!.clip, result.energy[i]! / result.weight, clipNorm),
  }));
  return [{ put: { space: SPACE, key: roundKey(uid), value: encode(clips) } }];
}

/** For the same commit as the activation of the round's version; none for a trusted round. */
export async function clipWrites(journal: Journal, federation: string, uid: string): Promise<Write[]> {
  const value = await journal.get(SPACE, roundKey(uid));
  return value ? [{ put: { space: SPACE, key: federationKey(federation), value } }, ...clipRemovals(uid)] : [];
}

/** For the round's end, whatever it was. */
export function clipRemovals(uid: string): Write[] {
  return [{ remove: { space: SPACE, key: roundKey(uid) } }];
}

/** The Federation is gone: whoever takes its name begins anew. */
export async function forgetClips(journal: Journal, federation: string): Promise<void> {
  await journal.commit([{ remove: { space: SPACE, key: federationKey(federation) } }]);
}

/** @param meanSquare  of the clipped values, in units of the clip: Σ energy / ΣW */
function nextClip(clip: string, meanSquare: number, clipNorm: string): string {
  const next = CLIP_RMS * Number(clip) * Math.sqrt(meanSquare);
  // Nothing has moved, or by less than anybody could tell: such a tensor begins anew.
  if (!(next > Number.MIN_VALUE) || next >= Number(clipNorm)) return clipNorm;
  return String(Number(next.toPrecision(DIGITS)));
}

const federationKey = (federation: string) => `federation/${federation}`;
const roundKey = (uid: string) => `round/${uid}`;

function encode(clips: Clips): Uint8Array {
  return Buffer.from(JSON.stringify(clips));
}

function decode(bytes: Uint8Array): Clips {
  return clipsSchema.parse(JSON.parse(Buffer.from(bytes).toString("utf8")));
}
