/**
 * metadata of our own resources as the API server gives it, and as much of it as a new object needs.
 * Holds: what is not named here is kept, so that an object that was parsed can be shown whole.
 */
import { z } from "zod";

export const ownerReferenceSchema = z.looseObject({
  apiVersion: z.string(),
  kind: z.string(),
  name: z.string(),
  uid: z.string(),
  controller: z.boolean().optional(),
  blockOwnerDeletion: z.boolean().optional(),
});

export const objectMetaSchema = z.looseObject({
  name: z.string(),
  namespace: z.string(),
  uid: z.string(),
  resourceVersion: z.string(),
  generation: z.int(),
  creationTimestamp: z.string(),
  deletionTimestamp: z.string().optional(),
  labels: z.record(z.string(), z.string()).optional(),
  annotations: z.record(z.string(), z.string()).optional(),
  finalizers: z.array(z.string()).optional(),
  ownerReferences: z.array(ownerReferenceSchema).optional(),
});

export type OwnerReference = z.infer<typeof ownerReferenceSchema>;
export type ObjectMeta = z.infer<typeof objectMetaSchema>;

/** What one writes to create or apply an object; the API server adds the rest. */
export type NewObject<Spec> = {
  apiVersion: string;
  kind: string;
  metadata: Pick<ObjectMeta, "name" | "namespace" | "labels" | "annotations" | "finalizers" | "ownerReferences">;
  spec: Spec;
};
