import { useState } from 'react';

export const LEAST_WIDTH_PX = 60;
export const MOST_WIDTH_PX = 1200;
const STORED_AT = 'columns';

interface Stored {
  hidden: readonly string[];
  widthsPx: Readonly<Record<string, number>>;
}

/** Which columns of a table are shown, and how wide: what was chosen in this browser. */
export interface ColumnLayout {
  isShown(id: string): boolean;
  show(id: string, isShown: boolean): void;
  widthPx(column: { id: string; widthPx: number }): number;
  /** To the nearest width that a column may have. */
  resize(id: string, widthPx: number): void;
}

function stored(): Stored {
  try {
    const { hidden, widthsPx } = JSON.parse(localStorage.getItem(STORED_AT) ?? '') as Partial<Stored>;
    if (Array.isArray(hidden) && widthsPx) return { hidden, widthsPx };
  } catch {
    // Nothing was chosen, or not by this version.
  }
  return { hidden: [], widthsPx: {} };
}

export function useColumnLayout(): ColumnLayout {
  const [{ hidden, widthsPx }, set] = useState(stored);
  const keep = (next: Stored): void => {
    localStorage.setItem(STORED_AT, JSON.stringify(next));
    set(next);
  };
  return {
    isShown: (id) => !hidden.includes(id),
    show: (id, isShown) =>
      keep({ hidden: isShown ? hidden.filter((each) => each !== id) : [...hidden, id], widthsPx }),
    widthPx: (column) => Number(widthsPx[column.id]) || column.widthPx,
    resize: (id, widthPx) =>
      keep({
        hidden,
        widthsPx: { ...widthsPx, [id]: Math.max(LEAST_WIDTH_PX, Math.min(MOST_WIDTH_PX, widthPx)) },
      }),
  };
}
