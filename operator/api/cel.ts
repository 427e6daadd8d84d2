/**
 * How a schema carries what only the API server can check: CEL rules and list types (api.md).
 * Holds: every rule has a sentence that says what to write instead; `kubectl apply` prints it.
 * Does not: evaluate CEL. The operator parses with zod what the API server has already admitted.
 */

export type CelRule = { rule: string; message: string };

/** `.meta(cel([rule, sentence], …))` on a schema puts the rules at that place of the CRD. */
export function cel(...rules: [rule: string, message: string][]): { "x-kubernetes-validations": CelRule[] } {
  return { "x-kubernetes-validations": rules.map(([rule, message]) => ({ rule, message })) };
}

/**
 * A regular expression of zod as a CEL rule. It takes the place of `pattern`, because the API server would print
 * both refusals, and "should match '^…$'" tells nobody what to write.
 */
export function matching(pattern: RegExp, message: string): Record<string, unknown> {
  return { pattern: undefined, ...cel([`self.matches(r'${pattern.source}')`, message]) };
}

/** Server-side apply merges the list by these keys; without it one writer replaces the list of another. */
export function listMap(...keys: string[]): Record<string, unknown> {
  return { "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys };
}
