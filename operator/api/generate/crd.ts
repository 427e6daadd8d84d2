/**
 * A resource definition as a CustomResourceDefinition: zod's JSON Schema made structural (Kubernetes: "Specifying a structural schema").
 * Holds: the same definition gives the same bytes; what a CRD cannot say is refused here, never dropped in silence.
 * Does not: write files (main.ts).
 */
import { z } from "zod";
import { API_VERSION, GROUP, type PrinterColumn, type ResourceDefinition, VERSION } from "../resource.ts";

type JsonSchema = { [key: string]: unknown };

export type CustomResourceDefinition = {
  apiVersion: string;
  kind: string;
  metadata: { name: string };
  spec: Record<string, unknown>;
};

/** What may stand in a structural schema, in the order in which it is written. */
const KEYWORDS = [
  "description",
  "type",
  "format",
  "default",
  "enum",
  "minimum",
  "maximum",
  "minLength",
  "maxLength",
  "pattern",
  "minItems",
  "maxItems",
  "maxProperties",
  "x-kubernetes-list-type",
  "x-kubernetes-list-map-keys",
  "x-kubernetes-map-type",
  "required",
  "properties",
  "items",
  "additionalProperties",
  "x-kubernetes-validations",
];

/** Longest name the API server lets through to CEL: without it the estimated cost of a rule on the name is unbounded. */
const NAME_MAX = 63;

export function customResourceDefinition(resource: ResourceDefinition): CustomResourceDefinition {
  const { kind, plural, singular, shortNames } = resource;
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: `${plural}.${GROUP}` },
    spec: {
      group: GROUP,
      scope: "Namespaced",
      names: { kind, listKind: `${kind}List`, plural, singular, shortNames, categories: ["rondo"] },
      versions: [
        {
          name: VERSION,
          served: true,
          storage: true,
          subresources: { status: {} },
          additionalPrinterColumns: resource.columns.map(column),
          schema: { openAPIV3Schema: rootSchema(resource) },
        },
      ],
    },
  };
}

function rootSchema({ schema, description, rules }: ResourceDefinition): JsonSchema {
  const { spec, status } = (z.toJSONSchema(schema, { io: "input" }) as { properties: Record<string, JsonSchema> })
    .properties;
  return {
    description: `${description} (${API_VERSION})`,
    type: "object",
    required: spec && "default" in spec ? undefined : ["spec"],
    properties: {
      apiVersion: { type: "string" },
      kind: { type: "string" },
      metadata: { type: "object", properties: { name: { type: "string", maxLength: NAME_MAX } } },
      spec: structural(spec!, "spec"),
      status: structural(status!, "status"),
    },
    "x-kubernetes-validations": rules,
  };
}

/** @throws Error for a JSON Schema keyword that has no place in a structural schema, and for a list or string without a limit */
function structural(schema: JsonSchema, path: string): JsonSchema {
  const { $schema: _dialect, propertyNames: _limits, const: only, ...rest } = schema;
  const known: JsonSchema = only === undefined ? rest : { ...rest, enum: [only] };
  for (const keyword of Object.keys(known).filter((k) => known[k] !== undefined)) {
    if (!KEYWORDS.includes(keyword)) throw new Error(`${path}: a CRD has no "${keyword}"`);
  }
  requireLimits(known, path);
  const nested: JsonSchema = { ...withoutSafeIntegerLimits(known) };
  if (known.properties) {
    nested.properties = Object.fromEntries(
      Object.entries(known.properties as Record<string, JsonSchema>).map(([k, v]) => [
        k,
        structural(v, `${path}.${k}`),
      ]),
    );
  }
  for (const key of ["items", "additionalProperties"]) {
    if (typeof known[key] === "object") nested[key] = structural(known[key] as JsonSchema, `${path}.${key}`);
  }
  return Object.fromEntries(KEYWORDS.filter((k) => nested[k] !== undefined).map((k) => [k, nested[k]]));
}

/** Without limits the API server refuses CEL rules as too costly, and etcd has to hold whatever comes. */
function requireLimits(schema: JsonSchema, path: string): void {
  const limit = { string: "maxLength", array: "maxItems" }[schema.type as string];
  if (limit && schema[limit] === undefined && schema.enum === undefined) throw new Error(`${path}: has no ${limit}`);
  if (schema.additionalProperties && schema.maxProperties === undefined)
    throw new Error(`${path}: has no maxProperties`);
}

/** zod writes ±(2^53 − 1) for every integer without a limit; to a reader of the CRD that would look like a decision. */
function withoutSafeIntegerLimits(schema: JsonSchema): JsonSchema {
  const { minimum, maximum, ...rest } = schema;
  return {
    ...rest,
    ...(schema.type === "integer" && { format: "int64" }),
    minimum: minimum === Number.MIN_SAFE_INTEGER ? undefined : minimum,
    maximum: maximum === Number.MAX_SAFE_INTEGER ? undefined : maximum,
  };
}

function column({ name, type, jsonPath, description, priority }: PrinterColumn): Record<string, unknown> {
  return { name, type, ...(description && { description }), ...(priority && { priority }), jsonPath };
}
