import { useRef } from 'react';
import { LEAST_WIDTH_PX, MOST_WIDTH_PX } from './column-layout.ts';

const STEP_PX = 20;

/** At the end of a column's heading: its width is changed by pulling it, or by the arrow keys. */
export function ColumnResizer({
  column,
  widthPx,
  onChange,
}: {
  column: string;
  widthPx: number;
  onChange(widthPx: number): void;
}) {
  const pulled = useRef({ fromPx: 0, widthPx: 0 });
  return (
    // biome-ignore lint/a11y/useSemanticElements: a rule between paragraphs is not one that can be moved
    <span
      className="resizer"
      role="separator"
      aria-orientation="vertical"
      aria-label={`Width of ${column}`}
      aria-valuenow={widthPx}
      aria-valuemin={LEAST_WIDTH_PX}
      aria-valuemax={MOST_WIDTH_PX}
      aria-valuetext={`${widthPx} pixels`}
      tabIndex={0}
      onKeyDown={(event) => {
        const step = { ArrowLeft: -STEP_PX, ArrowRight: STEP_PX }[event.key];
        if (step === undefined) return;
        event.preventDefault();
        onChange(widthPx + step);
      }}
      onPointerDown={(event) => {
        event.preventDefault();
        event.currentTarget.setPointerCapture(event.pointerId);
        pulled.current = { fromPx: event.clientX, widthPx };
      }}
      onPointerMove={(event) => {
        if (event.currentTarget.hasPointerCapture(event.pointerId))
          onChange(pulled.current.widthPx + event.clientX - pulled.current.fromPx);
      }}
    />
  );
}
