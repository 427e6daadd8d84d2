/**
 * Order of resourceVersions of one kind in one cluster. Since Kubernetes 1.35 the API promises that they are decimal numbers that
 * grow; before that it only was so.
 */

/** Whether `a` is older than `b`. What is no number is always taken for older: news are then believed. */
export function isOlder(a: string, b: string): boolean {
  if (a === b) return false;
  if (!/^\d+$/.test(a) || !/^\d+$/.test(b)) return true;
  return a.length === b.length ? a < b : a.length < b.length;
}
