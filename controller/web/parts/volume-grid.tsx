import { useQueries, useQuery } from '@tanstack/react-query';
import { type KeyboardEvent, useEffect, useLayoutEffect, useRef, useState } from 'react';
import { useLocation } from 'wouter';
import type { FleetVolume } from '../../../shared/protocol/api.ts';
import type { VolumeOrder } from '../../../shared/protocol/lists.ts';
import { linkTo, placeOfVolume } from '../api/client.ts';
import { countQuery, ROWS, rowsQuery, type VolumeView } from '../api/queries.ts';
import { Problem } from './basics.tsx';
import type { ColumnLayout } from './column-layout.ts';
import { ColumnResizer } from './column-resizer.tsx';
import { counted } from './format.ts';
import { type GridColumn, keyOfVolume } from './volume-columns.tsx';

const ROW_PX = 36;
/** Browsers draw nothing that is higher than some 17 million pixels: a longer table scrolls faster. */
const MOST_PX = 8_000_000;

/** Where the pixels of a long table lie in the shorter one that is scrolled. */
class Scale {
  readonly #whole: number;
  readonly drawn: number;
  readonly #seen: number;

  constructor(count: number, seenPx: number) {
    this.#whole = Math.max(count * ROW_PX, seenPx);
    this.drawn = Math.min(this.#whole, Math.max(MOST_PX, seenPx));
    this.#seen = seenPx;
  }

  /** The first pixel of the table that is seen. */
  top(scrollTop: number): number {
    const range = this.drawn - this.#seen;
    return range <= 0 ? 0 : (Math.min(scrollTop, range) / range) * (this.#whole - this.#seen);
  }

  scrollTop(top: number): number {
    const range = this.#whole - this.#seen;
    return range <= 0 ? 0 : (Math.max(0, Math.min(top, range)) / range) * (this.drawn - this.#seen);
  }
}

interface VolumeGridProps {
  label: string;
  view: VolumeView;
  onSort(order: VolumeOrder, descending: boolean): void;
  columns: readonly GridColumn[];
  layout: ColumnLayout;
  /** By place. */
  selected: ReadonlyMap<string, FleetVolume>;
  onSelect(selected: ReadonlyMap<string, FleetVolume>): void;
}

/**
 * A table of all volumes that there are: rows are asked for as they come into view, so that a million are as quick as ten. React Aria's
 * table has every row that was seen in memory; this one has those on the screen. It is a grid in which one row is active: arrow keys,
 * Page Up and Down, Home and End move it, Space selects it, Enter opens it.
 */
export function VolumeGrid({ label, view, onSort, columns, layout, selected, onSelect }: VolumeGridProps) {
  const [, navigate] = useLocation();
  const scroller = useRef<HTMLDivElement>(null);
  const [scrollTop, setScrollTop] = useState(0);
  const [seenPx, setSeenPx] = useState(600);
  const [active, setActive] = useState(0);
  const counting = useQuery(countQuery(view));
  const count = counting.data ?? 0;
  const scale = new Scale(count, seenPx);
  const top = scale.top(scrollTop);
  const first = Math.floor(top / ROW_PX);
  const last = Math.min(count, Math.ceil((top + seenPx) / ROW_PX) + 1);
  const activeRow = Math.min(active, Math.max(0, count - 1));

  const pages: number[] = [];
  for (let page = Math.floor(first / ROWS); page * ROWS < last; page++) pages.push(page);
  const results = useQueries({ queries: pages.map((page) => rowsQuery(view, page)) });
  const rowAt = (index: number): FleetVolume | undefined =>
    results[Math.floor(index / ROWS) - (pages[0] ?? 0)]?.data?.[index % ROWS];

  useLayoutEffect(() => {
    const element = scroller.current!;
    const observer = new ResizeObserver(() => setSeenPx(element.clientHeight - ROW_PX));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  const filter = JSON.stringify(view);
  // biome-ignore lint/correctness/useExhaustiveDependencies: another view begins at its first row
  useEffect(() => {
    setActive(0);
    if (scroller.current) scroller.current.scrollTop = 0;
  }, [filter]);

  const show = (index: number): void => {
    const row = Math.max(0, Math.min(count - 1, index));
    setActive(row);
    const [from, to] = [row * ROW_PX, (row + 1) * ROW_PX];
    const target = from < top ? from : to > top + seenPx ? to - seenPx : undefined;
    if (target === undefined || !scroller.current) return;
    scroller.current.scrollTop = scale.scrollTop(target);
    setScrollTop(scroller.current.scrollTop);
  };
  const toggle = (volume: FleetVolume | undefined): void => {
    if (!volume) return;
    const key = keyOfVolume(volume);
    const next = new Map(selected);
    if (!next.delete(key)) next.set(key, volume);
    onSelect(next);
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    // Its buttons and links have keys of their own.
    if (event.target !== event.currentTarget) return;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const screen = Math.max(1, Math.floor(seenPx / ROW_PX) - 1);
    const moves: Record<string, number> = {
      ArrowDown: activeRow + 1,
      ArrowUp: activeRow - 1,
      PageDown: activeRow + screen,
      PageUp: activeRow - screen,
      Home: 0,
      End: count - 1,
    };
    const move = moves[event.key];
    const volume = rowAt(activeRow);
    if (move !== undefined) show(move);
    else if (event.key === ' ') toggle(volume);
    else if (event.key === 'Enter' && volume) navigate(linkTo.volume(placeOfVolume(volume)));
    else if (event.key === 'Escape' && selected.size > 0) onSelect(new Map());
    else return;
    event.preventDefault();
  };
  const template = `44px ${columns.map((column) => `${layout.widthPx(column)}px`).join(' ')}`;

  const failed = counting.error ?? results.find(({ error }) => error)?.error;
  const indexes = Array.from({ length: Math.max(0, last - first) }, (_, index) => first + index);
  return (
    <>
      {failed && (
        <Problem
          error={failed}
          retry={() => {
            void counting.refetch();
            for (const result of results) if (result.error) void result.refetch();
          }}
        />
      )}
      <div
        ref={scroller}
        className="grid"
        role="grid"
        tabIndex={0}
        aria-label={label}
        aria-rowcount={count + 1}
        aria-colcount={columns.length + 1}
        aria-multiselectable="true"
        // Only while it is drawn: it may be scrolled out of sight.
        aria-activedescendant={first <= activeRow && activeRow < last ? `row-${activeRow}` : undefined}
        onScroll={({ currentTarget }) => setScrollTop(currentTarget.scrollTop)}
        onKeyDown={onKeyDown}
      >
        <div
          className="grid-row grid-head"
          role="row"
          aria-rowindex={1}
          style={{ gridTemplateColumns: template }}
        >
          <span role="columnheader">
            <span className="hidden">Selected</span>
          </span>
          {columns.map((column) => {
            const { id, name, order, isNumber } = column;
            const isSorted = order === view.order;
            return (
              <span
                key={id}
                role="columnheader"
                className={isNumber ? 'right' : ''}
                aria-label={name}
                aria-sort={isSorted ? (view.descending ? 'descending' : 'ascending') : undefined}
              >
                {order ? (
                  <button
                    type="button"
                    className="sort"
                    onClick={() =>
                      onSort(order, isSorted ? !view.descending : order !== 'name' && order !== 'place')
                    }
                  >
                    {name}
                    <span aria-hidden="true">{isSorted ? (view.descending ? ' ▼' : ' ▲') : ''}</span>
                  </button>
                ) : (
                  name
                )}
                <ColumnResizer
                  column={name}
                  widthPx={layout.widthPx(column)}
                  onChange={(widthPx) => layout.resize(id, widthPx)}
                />
              </span>
            );
          })}
        </div>
        <div role="rowgroup" style={{ height: scale.drawn }} className="grid-body">
          {indexes.map((index) => {
            const volume = rowAt(index);
            const isSelected = volume !== undefined && selected.has(keyOfVolume(volume));
            return (
              <div
                key={index}
                id={`row-${index}`}
                role="row"
                aria-rowindex={index + 2}
                aria-selected={isSelected}
                className={index === activeRow ? 'grid-row active' : 'grid-row'}
                style={{
                  gridTemplateColumns: template,
                  transform: `translateY(${scrollTop + index * ROW_PX - top}px)`,
                }}
                onClick={() => setActive(index)}
              >
                <span role="gridcell">
                  <input
                    type="checkbox"
                    tabIndex={-1}
                    aria-label={`Select ${volume?.name ?? ''}`}
                    checked={isSelected}
                    onChange={() => toggle(volume)}
                  />
                </span>
                {columns.map(({ id, isNumber, cell }) => (
                  <span key={id} role="gridcell" className={isNumber ? 'right' : ''}>
                    {volume ? cell(volume) : id === 'name' ? '…' : ''}
                  </span>
                ))}
              </div>
            );
          })}
        </div>
      </div>
      <p className="grid-foot" role="status">
        {counting.data === undefined
          ? 'Counting …'
          : count === 0
            ? 'No volumes, or none that match.'
            : counted(count, 'volume')}
        {selected.size > 0 && `, ${selected.size} selected`}
      </p>
    </>
  );
}
