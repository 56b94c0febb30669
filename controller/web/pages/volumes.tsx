import { useState } from 'react';
import { useSearchParams } from 'wouter';
import { VOLUME_FORMATS } from '../../../shared/conf/image-formats.ts';
import type { FleetVolume } from '../../../shared/protocol/api.ts';
import { VOLUME_ORDERS, type VolumeOrder } from '../../../shared/protocol/lists.ts';
import { isUp } from '../../../shared/protocol/pool-state.ts';
import { linkTo, placeOfVolume } from '../api/client.ts';
import { usePools, type VolumeView } from '../api/queries.ts';
import { useMay } from '../api/rights.ts';
import { useAsked } from '../parts/asked.ts';
import { A, Button, Page } from '../parts/basics.tsx';
import { useColumnLayout } from '../parts/column-layout.ts';
import { ColumnMenu } from '../parts/column-menu.tsx';
import { Choice, Field } from '../parts/form.tsx';
import { GRID_COLUMNS } from '../parts/volume-columns.tsx';
import { VolumeGrid } from '../parts/volume-grid.tsx';
import { CreateVolume } from '../tasks/create-volume.tsx';
import { DeleteVolumes } from '../tasks/delete-volumes.tsx';
import { MigrateVolumes } from '../tasks/migrate-volumes.tsx';
import { UploadVolume } from '../tasks/upload-volume.tsx';

type Open = 'create' | 'upload' | 'delete' | 'migrate' | undefined;

const viewOf = (params: URLSearchParams, fixed: { host?: string; pool?: string }): VolumeView => {
  const order = params.get('order') as VolumeOrder | null;
  return {
    ...fixed,
    search: params.get('search') || undefined,
    format: params.get('format') || undefined,
    order: order && VOLUME_ORDERS.includes(order) ? order : 'place',
    descending: params.get('descending') === 'true',
  };
};

/** The table with its filter, which is in the address of the page, and what can be done with what is selected. */
export function VolumeTable({ host, pool }: { host?: string; pool?: string }) {
  const [params, setParams] = useSearchParams();
  const [selected, select] = useState<ReadonlyMap<string, FleetVolume>>(new Map());
  const layout = useColumnLayout();
  const [open, setOpen] = useState<Open>();
  const [search, setSearch] = useState(params.get('search') ?? '');
  // In the table of all it is asked for a pool later.
  const place = host === undefined ? undefined : { host, pool };
  const may = useMay();
  useAsked(
    (['create', 'upload'] as const).filter((what) => may(`volume.${what}`, place)),
    setOpen,
  );
  const view = viewOf(params, { host, pool });
  const set = (changes: Record<string, string>): void => {
    setParams(
      (before) => {
        const next = new URLSearchParams(before);
        for (const [name, value] of Object.entries(changes)) {
          if (value) next.set(name, value);
          else next.delete(name);
        }
        return next;
      },
      { replace: true },
    );
    select(new Map());
  };
  const columns = GRID_COLUMNS.filter(({ id }) => !(id === 'pool' && pool !== undefined));
  const chosen = [...selected.values()];
  const mayAll = (action: string): boolean =>
    chosen.length > 0 && chosen.every((volume) => may(action, volume));
  return (
    <>
      <div className="filters">
        <search>
          <form
            onSubmit={(event) => {
              event.preventDefault();
              set({ search });
            }}
          >
            <Field
              label="Search in names"
              type="search"
              value={search}
              onChange={(text) => {
                setSearch(text);
                if (text === '') set({ search: '' });
              }}
              placeholder="part of a name, then Enter"
            />
          </form>
        </search>
        <Choice
          label="Format"
          value={view.format ?? ''}
          onChange={(format) => set({ format })}
          options={[{ id: '', label: 'every format' }, ...VOLUME_FORMATS.map((id) => ({ id, label: id }))]}
        />
        <ColumnMenu columns={columns} layout={layout} />
        <div className="tools">
          {mayAll('volume.migrate') && <Button onPress={() => setOpen('migrate')}>Move or copy …</Button>}
          {mayAll('volume.delete') && (
            <Button look="danger" onPress={() => setOpen('delete')}>
              Delete …
            </Button>
          )}
          {may('volume.upload', place) && <Button onPress={() => setOpen('upload')}>Upload …</Button>}
          {may('volume.create', place) && (
            <Button look="primary" onPress={() => setOpen('create')}>
              New volume …
            </Button>
          )}
        </div>
      </div>
      <VolumeGrid
        label="Volumes"
        view={view}
        columns={columns.filter(({ id }) => layout.isShown(id))}
        layout={layout}
        selected={selected}
        onSelect={select}
        onSort={(order, descending) => set({ order, descending: String(descending) })}
      />
      <NotShown host={host} pool={pool} />
      {open === 'create' && <CreateVolume place={{ host, pool }} close={() => setOpen(undefined)} />}
      {open === 'upload' && <UploadVolume place={{ host, pool }} close={() => setOpen(undefined)} />}
      {open === 'delete' && (
        <DeleteVolumes
          volumes={chosen.map(placeOfVolume)}
          close={() => setOpen(undefined)}
          done={() => select(new Map())}
        />
      )}
      {open === 'migrate' && (
        <MigrateVolumes volumes={chosen} close={() => setOpen(undefined)} done={() => select(new Map())} />
      )}
    </>
  );
}

/** Of which pools it is not known now what is in them. */
function NotShown({ host, pool }: { host?: string; pool?: string }) {
  const away = usePools().filter(
    (each) =>
      !isUp(each) && (host === undefined || each.host === host) && (pool === undefined || each.name === pool),
  );
  if (away.length === 0) return null;
  return (
    <p className="why">
      Not running, or away, so that their volumes are not here, or as they were seen last:{' '}
      {away.slice(0, 5).map((each) => (
        <A key={`${each.host}/${each.name}`} to={linkTo.pool(each.host, each.name)}>
          {each.host}/{each.name}{' '}
        </A>
      ))}
      {away.length > 5 && `and ${away.length - 5} more pools`}
    </p>
  );
}

export function Volumes() {
  return (
    <Page title="Volumes">
      <VolumeTable />
    </Page>
  );
}
