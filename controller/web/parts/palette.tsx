import { useQuery } from '@tanstack/react-query';
import { useDeferredValue, useEffect, useState } from 'react';
import { Autocomplete, Input, Label, Menu, MenuItem, SearchField } from 'react-aria-components';
import { useLocation } from 'wouter';
import type { FleetVolume } from '../../../shared/protocol/api.ts';
import { call, linkTo, placeOfVolume } from '../api/client.ts';
import { useHosts, usePools } from '../api/queries.ts';
import { useMay } from '../api/rights.ts';
import { useCommands } from './commands.ts';
import { Dialog } from './dialog.tsx';
import { sectionsFor } from './sections.ts';

interface Hit {
  id: string;
  what: string;
  name: string;
}

const MOST = 8;

/** Goes to everything by its name: Ctrl+K. */
export function Palette({ isOpen, setOpen }: { isOpen: boolean; setOpen(isOpen: boolean): void }) {
  const [, navigate] = useLocation();
  const [text, setText] = useState('');
  const search = useDeferredValue(text.trim());
  const may = useMay();
  const commands = useCommands();
  const hosts = useHosts();
  const pools = usePools();
  useEffect(() => {
    const onKey = (event: KeyboardEvent): void => {
      if (event.key !== 'k' || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      setText('');
      setOpen(true);
    };
    window.addEventListener('keydown', onKey);
    return () => window.removeEventListener('keydown', onKey);
  }, [setOpen]);
  const { data: volumes = [] } = useQuery({
    queryKey: ['palette', search],
    queryFn: ({ signal }) =>
      call<FleetVolume[]>(`/volumes?limit=${MOST}&search=${encodeURIComponent(search)}`, { signal }),
    enabled: isOpen && search.length >= 3,
    gcTime: 0,
  });
  const has = (name: string): boolean => name.toLowerCase().includes(search.toLowerCase());
  const hits: Hit[] = [
    ...[...sectionsFor(may), { to: '/account', name: 'Account' }]
      .filter(({ name }) => has(name))
      .map(({ to, name }) => ({ id: to, what: 'page', name })),
    ...commands.filter(({ name }) => has(name)).map(({ to, name }) => ({ id: to, what: 'action', name })),
    ...(search === ''
      ? []
      : [
          ...hosts
            .filter(({ name }) => has(name))
            .slice(0, MOST)
            .map(({ name }) => ({ id: linkTo.host(name), what: 'host', name })),
          ...pools
            .filter(({ host, name }) => has(`${host}/${name}`))
            .slice(0, MOST)
            .map(({ host, name }) => ({
              id: linkTo.pool(host, name),
              what: 'pool',
              name: `${host}/${name}`,
            })),
          ...volumes.map((volume) => ({
            id: linkTo.volume(placeOfVolume(volume)),
            what: 'volume',
            name: `${volume.host}/${volume.pool}/${volume.name}`,
          })),
          ...(/^\d+$/.test(search) ? [{ id: linkTo.job(Number(search)), what: 'job', name: search }] : []),
        ]),
  ];
  return (
    <Dialog title="Go to" isOpen={isOpen} close={() => setOpen(false)}>
      <Autocomplete inputValue={text} onInputChange={setText}>
        <SearchField className="field" autoFocus>
          <Label>A page, host, pool, volume, the number of a job, or what to do</Label>
          <Input />
        </SearchField>
        <Menu
          className="options"
          aria-label="What was found"
          items={hits}
          onAction={(key) => {
            setOpen(false);
            navigate(String(key));
          }}
          renderEmptyState={() => (
            <p className="empty">
              Nothing has this in its name{search.length < 3 && '; volumes are looked for from 3 letters on'}.
            </p>
          )}
        >
          {({ id, what, name }) => (
            <MenuItem id={id} textValue={name} className="option">
              {name} <span className="reason">{what}</span>
            </MenuItem>
          )}
        </Menu>
      </Autocomplete>
    </Dialog>
  );
}
