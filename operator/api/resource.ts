/**
 * What makes a zod schema a custom resource: its names, columns and root rules.
 * Does not: produce YAML (crd.ts), nor talk to the API server.
 */
import type { z } from "zod";
import type { CelRule } from "./cel.ts";

export const GROUP = "rondo.dev";
export const VERSION = "v1alpha1";
export const API_VERSION = `${GROUP}/${VERSION}`;

export type PrinterColumn = {
  name: string;
  type: "string" | "integer" | "boolean" | "date";
  jsonPath: string;
  description?: string;
  /** 1: shown only with `kubectl get -o wide`. */
  priority?: 1;
};

export type ResourceDefinition = {
  kind: string;
  plural: string;
  singular: string;
  shortNames: string[];
  description: string;
  /** The whole object; `spec` and `status` become the CRD's schema, metadata is the API server's own. */
  schema: z.ZodObject<{ spec: z.ZodType; status: z.ZodType }>;
  columns: PrinterColumn[];
  /** Rules that see the name, or spec and status together. */
  rules: CelRule[];
};

export const AGE: PrinterColumn = { name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp" };

/**
 * The rule on a name from which other names are made: a DNS label, so short that its children fit into 63 characters.
 * @param children what is made from it, for the sentence
 */
export function nameRule(longest: number, children: string): CelRule {
  return {
    rule: `size(self.metadata.name) <= ${longest} && self.metadata.name.matches(r'^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')`,
    message: `metadata.name must have at most ${longest} lower-case letters, digits and dashes, because ${children}`,
  };
}
