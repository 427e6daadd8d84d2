/** Prometheus text as numbers: what a process's own metrics say, and how much of it happened between two looks. */

export interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

export type Labels = Record<string, string>;

export class Metrics {
  readonly #samples: Sample[];

  constructor(text: string) {
    this.#samples = text.split("\n").flatMap((line) => parseLine(line) ?? []);
  }

  static async of(url: string): Promise<Metrics> {
    const answer = await fetch(url);
    if (!answer.ok) throw new Error(`${url}: ${answer.status}`);
    return new Metrics(await answer.text());
  }

  samples(name: string, labels: Labels = {}): Sample[] {
    const matches = (sample: Sample) => Object.entries(labels).every(([key, value]) => sample.labels[key] === value);
    return this.#samples.filter((sample) => sample.name === name && matches(sample));
  }

  /** Over all series that carry these labels. */
  sum(name: string, labels: Labels = {}): number {
    return this.samples(name, labels).reduce((sum, { value }) => sum + value, 0);
  }
}

/** A histogram's observations between two looks: upper bound of a bucket (the last is Infinity) → how many were in it or below. */
export function bucketsBetween(
  before: Metrics,
  after: Metrics,
  name: string,
  labels: Labels = {},
): Map<number, number> {
  const bounds = new Map<number, number>();
  const add = (metrics: Metrics, sign: number) => {
    for (const { labels: own, value } of metrics.samples(`${name}_bucket`, labels)) {
      const bound = own.le === "+Inf" ? Number.POSITIVE_INFINITY : Number(own.le);
      bounds.set(bound, (bounds.get(bound) ?? 0) + sign * value);
    }
  };
  add(after, 1);
  add(before, -1);
  return new Map([...bounds].sort(([a], [b]) => a - b));
}

/** As Prometheus's histogram_quantile: linear within the bucket. NaN where nothing was observed. */
export function quantile(buckets: ReadonlyMap<number, number>, q: number): number {
  const entries = [...buckets];
  const rank = q * (entries.at(-1)?.[1] ?? 0);
  let [lower, below] = [0, 0];
  for (const [bound, count] of entries) {
    if (count >= rank && count > 0) {
      // Beyond the last bound nothing is known but that it was more.
      if (bound === Number.POSITIVE_INFINITY) return lower;
      return lower + ((bound - lower) * (rank - below)) / Math.max(count - below, 1);
    }
    [lower, below] = [bound, count];
  }
  return Number.NaN;
}

const LINE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"/g;

function parseLine(line: string): Sample | undefined {
  const found = line.startsWith("#") ? null : LINE.exec(line);
  if (!found) return undefined;
  const [, name, labels = "", value] = found;
  return {
    name: name!,
    labels: Object.fromEntries([...labels.matchAll(LABEL)].map(([, key, text]) => [key!, text!])),
    value: Number(value),
  };
}
