/** What every contender moves per participant and direction: 20 MiB of float32, the size of a LoRA adapter of a 7B model at rank 16 or so. */

export const PARTICIPANTS = 5;
export const ROUNDS = 5;
/** Of Flower's SecAgg+: each takes the better part of a minute. */
export const SECAGG_PLUS_ROUNDS = 3;
export const RANK = 8;
/** Values per tensor: 256 KiB. */
export const FEATURES = 8192;
/** q_proj and v_proj of 20 layers, A and B: 80 tensors. */
export const LAYERS = 20;
export const TENSORS = LAYERS * 4;
export const PAYLOAD_BYTES = TENSORS * RANK * FEATURES * 4;
