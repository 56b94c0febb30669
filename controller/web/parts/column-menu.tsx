import { Button } from './basics.tsx';
import type { ColumnLayout } from './column-layout.ts';
import { Check } from './form.tsx';
import type { GridColumn } from './volume-columns.tsx';

const STEP_PX = 40;

/** Which columns are shown, and how wide: all that pulling at their headings does, by single presses. The first one always is shown. */
export function ColumnMenu({ columns, layout }: { columns: readonly GridColumn[]; layout: ColumnLayout }) {
  return (
    <details className="columns">
      <summary>Columns</summary>
      <div>
        {columns.map((column, index) => {
          const { id, name } = column;
          const widthPx = layout.widthPx(column);
          return (
            <div key={id}>
              {index === 0 ? (
                <span>{name}</span>
              ) : (
                <Check isSelected={layout.isShown(id)} onChange={(isShown) => layout.show(id, isShown)}>
                  {name}
                </Check>
              )}
              <Button
                look="quiet"
                aria-label={`${name} narrower`}
                onPress={() => layout.resize(id, widthPx - STEP_PX)}
              >
                −
              </Button>
              <Button
                look="quiet"
                aria-label={`${name} wider`}
                onPress={() => layout.resize(id, widthPx + STEP_PX)}
              >
                +
              </Button>
            </div>
          );
        })}
      </div>
    </details>
  );
}
