/** Loss over rounds as an SVG: one line for each arm that has rounds, one level for each that has none; lighter bands from the lowest to the highest seed. */
import { type Learnt, mean, scoreOf } from "./learning.ts";

const [WIDTH, HEIGHT] = [720, 400];
const BOX = { left: 64, right: 190, top: 24, bottom: 44 };
/** Okabe and Ito's palette, which the colour-blind can tell apart. */
const LINES = [
  { arm: "federated", title: "federated", colour: "#0072b2" },
  { arm: "fedprox", title: "FedProx, mu 0.1", colour: "#e69f00" },
  { arm: "freezeA", title: "A frozen", colour: "#009e73" },
  { arm: "recordPrivacy", title: "record DP, epsilon 8", colour: "#cc79a7" },
] as const;
const LEVELS = [
  { arm: "local", title: "local only", colour: "#d55e00" },
  { arm: "centralised", title: "centralised", colour: "#000000" },
] as const;

type Point = [round: number, loss: number];

export function plot(learnt: readonly Learnt[]): string {
  const curves = LINES.map(({ arm, title, colour }) => ({ title, colour, runs: curvesOf(learnt, arm) })).filter(
    ({ runs }) => runs.length > 0,
  );
  const levels = LEVELS.map(({ arm, title, colour }) => ({
    title,
    colour,
    loss: mean(learnt.filter((one) => one.arm === arm).map(scoreOf)),
  }));
  const rounds = Math.max(...curves.flatMap(({ runs }) => runs.map(({ length }) => length - 1)));
  const all = [...curves.flatMap(({ runs }) => runs.flat()), ...levels.map(({ loss }) => loss)];
  const [low, high] = [Math.floor(Math.min(...all) * 10) / 10, Math.ceil(Math.max(...all) * 10) / 10];
  const x = (round: number) => BOX.left + (round / rounds) * (WIDTH - BOX.left - BOX.right);
  const y = (loss: number) => BOX.top + ((high - loss) / (high - low)) * (HEIGHT - BOX.top - BOX.bottom);
  const path = (points: Point[]) =>
    points.map(([round, loss], i) => `${i ? "L" : "M"}${x(round).toFixed(1)} ${y(loss).toFixed(1)}`).join("");
  const ends = spread([
    ...curves.map(({ title, colour, runs }) => ({ title, colour, y: y(at(runs, rounds).middle) })),
    ...levels.map(({ title, colour, loss }) => ({ title, colour, y: y(loss) })),
  ]);
  const ticks = Array.from(
    { length: Math.round((high - low) / tickOf(high - low)) + 1 },
    (_, i) => low + i * tickOf(high - low),
  );
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12" role="img">`,
    "<title>Loss on all participants' held-out text over rounds</title>",
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#ffffff"/>`,
    ...ticks.map(
      (loss) =>
        `<path d="M${BOX.left} ${y(loss).toFixed(1)}H${WIDTH - BOX.right}" stroke="#dddddd"/><text x="${BOX.left - 8}" y="${(y(loss) + 4).toFixed(1)}" text-anchor="end">${loss.toFixed(1)}</text>`,
    ),
    ...Array.from(
      { length: rounds + 1 },
      (_, round) =>
        `<text x="${x(round).toFixed(1)}" y="${HEIGHT - BOX.bottom + 18}" text-anchor="middle">${round}</text>`,
    ),
    `<text x="${x(rounds / 2)}" y="${HEIGHT - 8}" text-anchor="middle">rounds of 8 steps at each of four sites</text>`,
    `<text transform="translate(16 ${HEIGHT / 2}) rotate(-90)" text-anchor="middle">held-out loss, nats per token</text>`,
    ...levels.map(
      ({ colour, loss }) =>
        `<path d="M${x(0)} ${y(loss).toFixed(1)}H${x(rounds)}" stroke="${colour}" stroke-dasharray="6 4" fill="none"/>`,
    ),
    ...curves.flatMap(({ colour, runs }) => {
      const points = Array.from({ length: rounds + 1 }, (_, round) => ({ round, ...at(runs, round) }));
      const band = [
        ...points.map(({ round, high }): Point => [round, high]),
        ...[...points].reverse().map(({ round, low }): Point => [round, low]),
      ];
      return [
        `<path d="${path(band)}Z" fill="${colour}" opacity="0.15"/>`,
        `<path d="${path(points.map(({ round, middle }): Point => [round, middle]))}" stroke="${colour}" stroke-width="2" fill="none"/>`,
      ];
    }),
    ...ends.map(
      ({ title, colour, y }) => `<text x="${x(rounds) + 8}" y="${(y + 4).toFixed(1)}" fill="${colour}">${title}</text>`,
    ),
    "</svg>",
    "",
  ].join("\n");
}

/** For each seed the loss after 0, 1, … rounds. */
function curvesOf(learnt: readonly Learnt[], arm: Learnt["arm"]): number[][] {
  return learnt
    .filter((one) => one.arm === arm)
    .map(({ seed, losses }) => {
      const initial = learnt.find((one) => one.arm === "initial" && one.seed === seed);
      return [...(initial?.losses ?? []), ...losses].map((found) => mean(Object.values(found)));
    });
}

function at(runs: readonly number[][], round: number) {
  const found = runs.map((run) => run[round]!);
  return { low: Math.min(...found), middle: mean(found), high: Math.max(...found) };
}

function tickOf(range: number): number {
  return range > 1 ? 0.2 : 0.1;
}

/** Names that would lie on each other move apart. */
function spread<T extends { y: number }>(names: T[]): T[] {
  const sorted = names.sort((a, b) => a.y - b.y);
  for (const [i, name] of sorted.entries()) if (i > 0) name.y = Math.max(name.y, sorted[i - 1]!.y + 14);
  return sorted;
}
