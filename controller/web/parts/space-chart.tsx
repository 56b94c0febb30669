import { useQuery } from '@tanstack/react-query';
import { useEffect, useRef, useState } from 'react';
import uPlot from 'uplot';
import type { SpacePoint } from '../../../shared/protocol/api.ts';
import { call } from '../api/client.ts';
import { Empty, Problem } from './basics.tsx';
import { Choice } from './form.tsx';
import { formatBytes, localTime } from './format.ts';
import 'uplot/dist/uPlot.min.css';

const DAY_MS = 24 * 3600_000;
const RANGES = [
  { id: '1', label: 'the last day' },
  { id: '7', label: 'the last week' },
  { id: '30', label: 'the last 30 days' },
  { id: '366', label: 'the last year' },
];
const HEIGHT_PX = 220;
/** Steps between the lines of the chart: powers of 2. */
const BINARY = Array.from({ length: 53 }, (_, power) => 2 ** power);

interface History {
  points: readonly SpacePoint[];
  from: number;
  now: number;
}

/** Points hold until the next one, and the last until now. */
function seriesOf(points: readonly SpacePoint[], from: number, now: number): uPlot.AlignedData {
  const all = points.map((point) => ({ ...point, at: Math.max(from, point.at) }));
  const last = all.at(-1);
  if (last && last.at < now) all.push({ ...last, at: now });
  return [
    all.map(({ at }) => at / 1000),
    all.map(({ capacityBytes }) => capacityBytes),
    all.map(({ allocationBytes }) => allocationBytes),
    all.map(({ peakBytes }) => peakBytes),
    all.map(({ provisionedBytes }) => provisionedBytes ?? null),
  ];
}

/** A colour of the style sheet, which follows the scheme. */
const colour = (name: string): string => {
  const probe = document.createElement('span');
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
};

function draw(element: HTMLElement, { points, from, now }: History): uPlot {
  const highest = Math.max(1, ...points.map(({ capacityBytes }) => capacityBytes));
  const [text, line] = [colour('dim'), colour('line')];
  const axis = { stroke: text, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
  const series = (label: string, name: string, dash?: number[]): uPlot.Series => ({
    label,
    stroke: colour(name),
    width: 2,
    dash,
    paths: uPlot.paths.stepped?.({ align: 1 }),
    points: { show: false },
    value: (_chart, value) => (value === null ? '' : formatBytes(value)),
  });
  return new uPlot(
    {
      width: element.clientWidth,
      height: HEIGHT_PX,
      scales: {
        // What is shown begins with what is known.
        x: { range: [Math.max(from, points[0]?.at ?? from) / 1000, now / 1000] },
        // What is provisioned may be many times what there is; it is not to hide how the rest goes.
        y: { range: [0, highest * 1.25] },
      },
      axes: [
        axis,
        {
          ...axis,
          size: 80,
          incrs: BINARY,
          values: (_chart, ticks) => ticks.map((tick) => formatBytes(tick)),
        },
      ],
      series: [
        { value: (_chart, at) => (at === null ? '' : localTime(at * 1000)) },
        series('capacity', 'dim', [4, 4]),
        series('in use', 'accent'),
        series('highest use', 'accent', [2, 4]),
        series('provisioned', 'warn'),
      ],
    },
    seriesOf(points, from, now),
    element,
  );
}

/** How space was used over time: of a pool, or of all. */
export function SpaceChart({ path, label }: { path: string; label: string }) {
  const [days, setDays] = useState('7');
  const element = useRef<HTMLDivElement>(null);
  const { data, error, refetch } = useQuery({
    queryKey: ['space-history', path, days],
    async queryFn({ signal }) {
      const now = Date.now();
      const from = now - Number(days) * DAY_MS;
      const points = await call<SpacePoint[]>(`${path}?since=${from}`, { signal });
      return { from, now, points };
    },
    refetchInterval: 60_000,
  });
  useEffect(() => {
    if (!data || data.points.length === 0 || !element.current) return;
    const chart = draw(element.current, data);
    const observer = new ResizeObserver(([entry]) =>
      chart.setSize({ width: entry!.contentRect.width, height: HEIGHT_PX }),
    );
    observer.observe(element.current);
    return () => {
      observer.disconnect();
      chart.destroy();
    };
  }, [data]);
  const last = data?.points.at(-1);
  return (
    <div className="chart">
      <Choice label={`${label}, over`} isLabelHidden value={days} onChange={setDays} options={RANGES} />
      {error && <Problem error={error} retry={() => void refetch()} />}
      {data?.points.length === 0 && <Empty>Nothing was seen yet: it is noted every minute.</Empty>}
      {/* Who does not see it hears what it ends with. */}
      <div
        ref={element}
        role="img"
        aria-label={`${label}: ${last ? `${formatBytes(last.allocationBytes)} of ${formatBytes(last.capacityBytes)} in use now` : 'nothing seen yet'}`}
      />
    </div>
  );
}
