/** A round's status as figures: seconds per phase, bytes, what it published. */
import type { AdapterVersion } from "../../operator/api/adapter-version.ts";
import type { FederationRound, RoundPhase } from "../../operator/api/federation-round.ts";
import type { RoundSummary } from "./summary.ts";

export function roundSummary({ metadata, status }: FederationRound, versions: readonly AdapterVersion[]): RoundSummary {
  const published = versions.find(({ spec }) => spec.round === metadata.name)?.spec;
  const times = (status.phaseTimes ?? []).map(({ phase, at }) => ({ phase, atMs: Date.parse(at) }));
  const seconds = (wanted: RoundPhase) => {
    const index = times.findIndex(({ phase }) => phase === wanted);
    return index < 0 || index + 1 >= times.length ? 0 : (times[index + 1]!.atMs - times[index]!.atMs) / 1000;
  };
  return {
    name: metadata.name ?? "",
    phase: status.phase ?? "Pending",
    contributions: status.contributions ?? "",
    seconds: {
      planning: seconds("Pending") + seconds("Planning"),
      training: seconds("Training"),
      aggregating: seconds("Aggregating"),
      evaluating: 0,
      publishing: seconds("Publishing"),
      total: times.length > 1 ? (times.at(-1)!.atMs - times[0]!.atMs) / 1000 : 0,
    },
    adapter: published
      ? { version: published.version, reference: published.reference, digest: published.digest }
      : null,
    bytesUp: status.bytes?.up ?? 0,
    bytesDown: status.bytes?.down ?? 0,
  };
}
