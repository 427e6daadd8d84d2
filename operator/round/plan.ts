/**
 * The signed plan of one round: what a participant is asked to train and how its delta will be used (protocol.md).
 * Holds: a plan is RFC 8785 canonical JSON of integers and decimal strings; unknown fields are refused.
 * Does not: sign or send it (transport), nor decide whether a site takes part (agent/policy.ts).
 */
import { z } from "zod";
import { decimal, isOfSchema3, trainingSchema } from "../api/planned-training.ts";

const text = (max: number) => z.string().min(1).max(max);
const sha256 = z.string().regex(/^sha256:[0-9a-f]{64}$/, "is not sha256:<64 hex digits>");
const key32 = z.string().regex(/^[A-Za-z0-9+/]{43}=$/, "is not 32 bytes in base64");
const count = z.int().min(0).max(Number.MAX_SAFE_INTEGER);
const signature64 = z.string().regex(/^[A-Za-z0-9+/]{86}==$/, "is not 64 bytes in base64");
/** Names of Kubernetes objects. A site makes file and object names of them, so that a path must not be one. */
const objectName = /^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/;
const participantName = text(63).regex(objectName, "is not the name of an object");
/** cpu, memory and the like are none: a plan must not set them by calling them GPUs. */
const extendedResource = /^[a-z0-9.-]+\/[A-Za-z0-9._-]+$/;
/** Milliseconds since 1970-01-01T00:00:00Z by the operator's clock. */
const instant = count;

export const sampleSchema = z.strictObject({
  seed: key32,
  /** How many contributions the round wants. */
  count: z.int().min(1).max(256),
  /** How many more are invited, so that nobody has to wait for stragglers. */
  overselect: z.int().min(0).max(255),
  /** Ascending by the bytes of their names, each once. */
  candidates: z.array(participantName).min(1).max(1024),
});

/** DP-SGD: noise over clip norm, the largest L2 norm of one record's gradient, the share of records that joins a step. */
export const recordPrivacySchema = z.strictObject({
  noiseMultiplier: decimal,
  maxGradNorm: decimal,
  sampleRate: decimal,
});

const planShape = z.strictObject({
  /** 4: says something of training that 3 could not; agents that know only 3 refuse it. */
  schema: z.union([z.literal(3), z.literal(4)]),
  /** `<trust domain>/<namespace>/<Federation name>` */
  federation: text(400).regex(
    /^[a-z0-9._-]+(\/[a-z0-9]([-a-z0-9.]*[a-z0-9])?){2}$/,
    "is not <trust domain>/<namespace>/<name>",
  ),
  round: count.min(1),
  /** metadata.name of the FederationRound; names the trainer Job. */
  roundName: text(63).regex(objectName, "is not the name of an object"),
  attempt: z.int().min(1).max(1000),
  purpose: z.literal("delta"),
  /** Everybody invited, ascending by the bytes of the participant's name. */
  roster: z
    .array(z.strictObject({ participant: participantName, identity: key32 }))
    .min(1)
    .max(256),
  /** Of whom the roster was drawn, and how (sampling.ts); absent: everybody who could be invited is on it. */
  sample: sampleSchema.optional(),
  /** Contributions without which the round fails. */
  minimum: z.int().min(1).max(256),
  baseModel: z.strictObject({ name: text(256), revision: text(128), digest: sha256 }),
  parent: z.strictObject({ version: count, digest: sha256, byteLength: count.max(2 ** 40) }),
  adapter: z.strictObject({
    rank: z.int().min(1).max(1024),
    alpha: z.int().min(1).max(65_536),
    targetModules: z.array(text(128)).min(1).max(64),
  }),
  /** The tensor table: ascending by the bytes of the PEFT name. */
  tensors: z
    .array(
      z.strictObject({
        name: text(512),
        shape: z
          .array(
            z
              .int()
              .min(1)
              .max(2 ** 31),
          )
          .length(2),
      }),
    )
    .min(1)
    .max(20_000),
  /** learningRate: of this round, scheduled already. */
  training: trainingSchema({
    image: text(512),
    recordPrivacy: recordPrivacySchema.optional(),
    resources: z.strictObject({
      gpus: z.int().min(0).max(64),
      gpuResourceName: text(128).regex(extendedResource, "is not the name of an extended resource"),
      memory: text(32),
      cpu: text(32),
    }),
  }),
  aggregation: z.strictObject({
    /** secure: with `secure` and without `sealing`; trusted: the other way round. */
    privacy: z.enum(["secure", "trusted"]),
    rule: z.literal("mean"),
    lora: z.literal("average"),
    weighting: z.enum(["examples", "uniform"]),
    exampleCap: z
      .int()
      .min(1)
      .max(2 ** 31),
    clipNorm: decimal,
  }),
  /** HPKE base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM: the round's public key. */
  sealing: z.strictObject({ publicKey: key32 }).optional(),
  /** secure-aggregation.md §2 "The plan covers". */
  secure: z
    .strictObject({
      ring: z.enum(["u32", "u16"]),
      /** The largest cohort: n_max. */
      largestCohort: z.int().min(3).max(128),
      /** Together the roster, each member once; members ascending by the bytes of their names. */
      cohorts: z
        .array(
          z.strictObject({ members: z.array(participantName).min(3).max(128), threshold: z.int().min(3).max(128) }),
        )
        .min(1)
        .max(64),
      /** Only with more than one cohort: who is where, checked by everybody (secagg/draw.ts). Ascending by participant. */
      draw: z
        .strictObject({
          number: z.int().min(1).max(3),
          nonces: z
            .array(
              z.strictObject({ participant: participantName, commitment: key32, signature: signature64, nonce: key32 }),
            )
            .min(6)
            .max(256),
        })
        .optional(),
      /** C_t and S_t of each tensor, in the order of `tensors`. */
      scales: z
        .array(z.strictObject({ clip: decimal, scale: decimal }))
        .min(1)
        .max(20_000),
      /** In this order behind the weight (secagg/vector.ts); `perTensor`: one value for each tensor, in their order. */
      metrics: z
        .array(
          z.strictObject({
            name: text(64),
            scale: z
              .int()
              .min(1)
              .max(2 ** 32),
            perTensor: z.boolean(),
          }),
        )
        .max(16),
    })
    .optional(),
  deadlines: z.strictObject({
    accept: instant,
    training: instant,
    /** When the steps of secure aggregation end: sharing keys, masking, consistency; unmasking ends with `aggregation`. */
    share: instant.optional(),
    mask: instant.optional(),
    consistency: instant.optional(),
    aggregation: instant,
  }),
});

export const planSchema = planShape.refine(
  ({ schema, training }) => schema === (isOfSchema3(training) ? 3 : 4),
  "is of a schema that does not go with its training",
);

export type Plan = z.infer<typeof planSchema>;
export type PlanTensor = Plan["tensors"][number];
export type PlanSample = NonNullable<Plan["sample"]>;
export type SecurePlan = NonNullable<Plan["secure"]>;
