/**
 * docs/api-reference.md: every field of every resource as a table, from the same schemas as the CRDs.
 * Does not: explain how the resources work together; docs/api.md does, by hand.
 */
import type { CelRule } from "../cel.ts";
import { API_VERSION, type ResourceDefinition } from "../resource.ts";
import { customResourceDefinition } from "./crd.ts";

type Schema = {
  type: string;
  description?: string;
  default?: unknown;
  enum?: unknown[];
  minimum?: number;
  maximum?: number;
  maxLength?: number;
  maxItems?: number;
  format?: string;
  required?: string[];
  properties?: Record<string, Schema>;
  items?: Schema;
  additionalProperties?: Schema;
  "x-kubernetes-validations"?: CelRule[];
};

type Row = { path: string; schema: Schema; required: boolean };

export function reference(resources: ResourceDefinition[], source: string): string {
  const head = `<!-- ${source} -->\n# Fields of ${API_VERSION}\n\nHow the resources work together is in [api.md](api.md).\n`;
  return `${head}${resources.map(section).join("")}`;
}

function section(resource: ResourceDefinition): string {
  const { kind, plural, shortNames, description, columns } = resource;
  const root = schemaOf(resource);
  const names = [plural, ...shortNames].map((name) => `\`${name}\``).join(", ");
  return [
    `\n## ${kind}\n\n${description} Names for kubectl: ${names}. Columns: ${columns.map(({ name, priority }) => `${name.toUpperCase()}${priority ? " (wide)" : ""}`).join(", ")}.\n`,
    `\n### ${kind}.spec\n\n${table(rows(root.properties!.spec!, "", []))}`,
    ruleList([root, root.properties!.spec!]),
    `\n### ${kind}.status\n\n${table(rows(root.properties!.status!, "", []))}`,
  ].join("");
}

function schemaOf(resource: ResourceDefinition): Schema {
  const [version] = customResourceDefinition(resource).spec.versions as { schema: { openAPIV3Schema: Schema } }[];
  return version!.schema.openAPIV3Schema;
}

function rows(schema: Schema, prefix: string, found: Row[]): Row[] {
  for (const [name, child] of Object.entries(schema.properties ?? {})) {
    const path = `${prefix}${name}`;
    found.push({ path, schema: child, required: schema.required?.includes(name) ?? false });
    // metav1.Condition is known, and the same everywhere.
    if (name === "conditions") continue;
    rows(child, `${path}.`, found);
    if (child.items) rows(child.items, `${path}[].`, found);
  }
  return found;
}

function table(entries: Row[]): string {
  const lines = entries.map(({ path, schema, required }) => {
    // An object's default of {} only says that its fields have defaults.
    const given =
      schema.default === undefined || schema.type === "object" ? "" : `\`${JSON.stringify(schema.default)}\``;
    return `| \`${path}\` | ${typeOf(schema)} | ${required ? "**required**" : given} | ${meaning(schema)} |\n`;
  });
  return `| field | type | default | meaning |\n|---|---|---|---|\n${lines.join("")}`;
}

function typeOf(schema: Schema): string {
  if (schema.enum) return schema.enum.map((value) => `\`${value}\``).join(" or ");
  if (schema.items) return `list of at most ${schema.maxItems} ${schema.items.type}s`;
  if (schema.additionalProperties) return `map of ${schema.additionalProperties.type}s`;
  if (schema.format === "date-time") return "time";
  if (schema.maxLength !== undefined) return `string of at most ${schema.maxLength}`;
  if (schema.maximum !== undefined) return `${schema.type} ${schema.minimum ?? ""}…${schema.maximum}`;
  return schema.minimum === undefined ? schema.type : `${schema.type} from ${schema.minimum}`;
}

function meaning(schema: Schema): string {
  const sentences = (schema["x-kubernetes-validations"] ?? []).map(({ message }) => `Refused otherwise: ${message}.`);
  return markdown([schema.description ?? "", ...sentences].join(" ").trim());
}

function ruleList(schemas: Schema[]): string {
  const rules = schemas.flatMap((schema) => schema["x-kubernetes-validations"] ?? []);
  return `\nRules on the whole:\n\n${rules.map(({ message }) => `- ${markdown(message)}\n`).join("")}`;
}

/** `<name>` would be taken for HTML, a bar for the next cell. */
function markdown(text: string): string {
  return text.replaceAll("<", "&lt;").replaceAll("|", "\\|");
}
