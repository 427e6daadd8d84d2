/**
 * What the messages of secure aggregation and of a draw must look like before anybody reads them (secure-aggregation.md §3, §6; rondo.v1.proto).
 * Holds: lengths, counts and order are right in whatever gets through; nothing is said of whether keys, shares or signatures are.
 * Does not: know who is in a cohort, or how large it is (secagg/coordinator does).
 */
import type {
  Advertise,
  Consistency,
  DrawCommitment,
  DrawNonce,
  RevealedShare,
  ShareKeys,
  Unmask,
  Work,
} from "./generated/rondo.v1.ts";

const KEY_BYTES = 32;
const HASH_BYTES = 32;
const SHARE_BYTES = 32;
export const SIGNATURE_BYTES = 64;
/** bShare ‖ sShare ‖ tag */
const CIPHERTEXT_BYTES = 80;
/** round/plan.ts: the largest cohort. */
export const MOST_MEMBERS = 128;
const MOST_DRAWS = 3;

/** What is wrong with the message, behind "A message of kind … "; undefined: nothing that can be seen from here. */
export type Complaint = string | undefined;

export function advertiseComplaint({ planHash, advertisement }: Advertise): Complaint {
  if (planHash.length !== HASH_BYTES) return "has a plan hash that is not 32 bytes long";
  if (!advertisement) return "has no keys";
  const { index, cPk, sPk, cmB, signature } = advertisement;
  if (!isIndex(index)) return "has an index that no member of a cohort has";
  if (cPk.length !== KEY_BYTES || sPk.length !== KEY_BYTES || cmB.length !== HASH_BYTES) {
    return "has a key or a commitment that is not 32 bytes long";
  }
  return signatureComplaint(signature);
}

export function shareComplaint({ ack, shares }: ShareKeys): Complaint {
  const complaint = signatureComplaint(ack) ?? membersComplaint(shares);
  if (complaint) return complaint;
  return shares.every(({ ciphertext }) => ciphertext.length === CIPHERTEXT_BYTES)
    ? undefined
    : "has encrypted shares that are not 80 bytes long";
}

export function consistencyComplaint({ signature }: Consistency): Complaint {
  return signatureComplaint(signature);
}

export function unmaskComplaint({ shares }: Unmask): Complaint {
  return membersComplaint(shares) ?? (shares.every(isShare) ? undefined : "has shares that are not 32 bytes long");
}

export function commitmentComplaint({ work, commitment, signature }: DrawCommitment): Complaint {
  if (commitment.length !== HASH_BYTES) return "has a commitment that is not 32 bytes long";
  return drawComplaint(work) ?? signatureComplaint(signature);
}

export function nonceComplaint({ work, nonce }: DrawNonce): Complaint {
  return nonce.length === HASH_BYTES ? drawComplaint(work) : "has a nonce that is not 32 bytes long";
}

/** An agent takes part in at most three draws of a round. */
function drawComplaint(work: Work | undefined): Complaint {
  return work && work.attempt <= MOST_DRAWS ? undefined : `names a draw beyond the ${MOST_DRAWS} that a round may have`;
}

function signatureComplaint(signature: Uint8Array): Complaint {
  return signature.length === SIGNATURE_BYTES ? undefined : "has a signature that is not 64 bytes long";
}

/** Members each once and in order, so that one set has one encoding and a duplicate is seen at once. */
function membersComplaint(of: ReadonlyArray<{ index: number }>): Complaint {
  if (of.length === 0 || of.length > MOST_MEMBERS) return `has not 1 to ${MOST_MEMBERS} shares`;
  const areRight = of.every(({ index }, n) => isIndex(index) && (n === 0 || index > of[n - 1]!.index));
  return areRight ? undefined : "has shares whose indexes are not ascending members of a cohort";
}

function isShare({ share }: RevealedShare): boolean {
  return share?.value.length === SHARE_BYTES;
}

function isIndex(index: number): boolean {
  return index >= 1 && index <= MOST_MEMBERS;
}
