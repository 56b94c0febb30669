import { type ReactNode, useMemo, useState } from 'react';
import {
  Cell,
  Column,
  Row,
  type SortDescriptor,
  Table,
  TableBody,
  TableHeader,
  TableLayout,
  Virtualizer,
} from 'react-aria-components';

export interface ColumnOf<T> {
  name: string;
  cell(row: T): ReactNode;
  /** What the column is sorted by. */
  by?(row: T): string | number;
  isNumber?: boolean;
  width?: number | `${number}fr`;
  minWidth?: number;
}

interface DataTableProps<T> {
  label: string;
  rows: readonly T[];
  keyOf(row: T): string;
  columns: readonly ColumnOf<T>[];
  empty: ReactNode;
  sort?: SortDescriptor;
}

const ROW_PX = 40;

/** A list that fits into memory, such as hosts and pools; only what is seen is in the document. */
export function DataTable<T>({ label, rows, keyOf, columns, empty, sort: first }: DataTableProps<T>) {
  const [sort, setSort] = useState<SortDescriptor | undefined>(first);
  const sorted = useMemo(() => {
    const by = columns.find(({ name }) => name === sort?.column)?.by;
    if (!sort || !by) return rows;
    const sign = sort.direction === 'descending' ? -1 : 1;
    return rows.toSorted((left, right) => {
      const [one, other] = [by(left), by(right)];
      return one === other ? 0 : one < other ? -sign : sign;
    });
  }, [rows, sort, columns]);
  const items = useMemo(() => sorted.map((row) => ({ key: keyOf(row), row })), [sorted, keyOf]);
  const isShort = rows.length <= 12;
  return (
    <Virtualizer layout={TableLayout} layoutOptions={{ rowHeight: ROW_PX, headingHeight: 36 }}>
      <Table
        aria-label={label}
        className={`table ${isShort ? 'short' : ''}`}
        style={isShort ? { height: 40 + ROW_PX * Math.max(1, rows.length) } : undefined}
        sortDescriptor={sort}
        onSortChange={setSort}
      >
        <TableHeader>
          {columns.map(({ name, by, isNumber, width, minWidth }) => (
            <Column
              key={name}
              id={name}
              allowsSorting={by !== undefined}
              isRowHeader={name === columns[0]!.name}
              width={width ?? '1fr'}
              minWidth={minWidth ?? 90}
              className={isNumber ? 'right' : ''}
            >
              {({ sortDirection }) => (
                <>
                  {name}
                  <span aria-hidden="true">
                    {sortDirection === undefined ? '' : sortDirection === 'ascending' ? ' ▲' : ' ▼'}
                  </span>
                </>
              )}
            </Column>
          ))}
        </TableHeader>
        <TableBody
          items={items}
          dependencies={[columns]}
          renderEmptyState={() => <p className="empty">{empty}</p>}
        >
          {({ key, row }) => (
            <Row id={key}>
              {columns.map(({ name, cell, isNumber }) => (
                <Cell key={name} className={isNumber ? 'right' : ''}>
                  {cell(row)}
                </Cell>
              ))}
            </Row>
          )}
        </TableBody>
      </Table>
    </Virtualizer>
  );
}
