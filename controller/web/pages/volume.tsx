import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { useLocation } from 'wouter';
import type { VolumeDetails } from '../../../shared/protocol/api.ts';
import { taskOf } from '../../../shared/protocol/job-words.ts';
import { ApiError, dataUrl, linkTo, placeOf, referenceOf, type VolumePlace } from '../api/client.ts';
import { jobsQuery, snapshotsQuery, volumeQuery } from '../api/queries.ts';
import { useMay } from '../api/rights.ts';
import { useAsked } from '../parts/asked.ts';
import { A, Badge, Button, Empty, Facts, Page, Problem, Section, Size, Time } from '../parts/basics.tsx';
import { VOLUME_COMMANDS } from '../parts/commands.ts';
import { DeleteVolumes } from '../tasks/delete-volumes.tsx';
import { MigrateVolumes } from '../tasks/migrate-volumes.tsx';
import {
  BaseVolume,
  CloneVolume,
  EditNotes,
  RenameVolume,
  ResizeVolume,
  SnapshotTask,
  SnapshotVolume,
  WipeVolume,
} from '../tasks/volume-tasks.tsx';
import { TrailOf } from './audit.tsx';

type Open =
  | (typeof VOLUME_COMMANDS)[number][0]
  | 'snapshot'
  | { snapshot: string; what: 'switch' | 'delete' };

/** What a volume stands on, and what stands on it, from the bottom up. */
function Chain({ volume }: { volume: VolumeDetails }) {
  const { parent, clones, backingStore, name } = volume;
  const isAlone = !parent && clones.length === 0 && !backingStore;
  if (isAlone) return <Empty>It has no backing image, and no linked clones.</Empty>;
  return (
    <ol className="chain">
      {clones.map((clone) => (
        <li key={clone} className="clone">
          <A to={linkTo.volume(placeOf(clone))}>{clone}</A> <span className="why">stands on this one</span>
        </li>
      ))}
      <li className="self" aria-current="true">
        {name}
      </li>
      {(parent ?? backingStore) && (
        <li className="parent">
          {parent ? <A to={linkTo.volume(placeOf(parent))}>{parent}</A> : <code>{backingStore!.path}</code>}{' '}
          <span className="why">what it stands on</span>
        </li>
      )}
    </ol>
  );
}

/** Where a volume went that is not there any more, where a job knows. */
function Gone({ place, reason }: { place: VolumePlace; reason: string }) {
  const { data: jobs = [] } = useQuery(jobsQuery({ state: 'done' }));
  const moved = jobs.find((job) => taskOf(job) === 'migrate' && job.source === referenceOf(place));
  return (
    <p>
      {moved ? (
        <>
          It was moved to <A to={linkTo.volume(placeOf(moved.target))}>{moved.target}</A>, by{' '}
          <A to={linkTo.job(moved.id)}>job {moved.id}</A>.
        </>
      ) : (
        <>
          {reason}. <A to={linkTo.pool(place.host, place.pool)}>What is in its pool</A>
        </>
      )}
    </p>
  );
}

function Snapshots({ volume, open }: { volume: VolumeDetails; open(what: Open): void }) {
  const place = { host: volume.host, pool: volume.pool, volume: volume.name };
  const { data, error } = useQuery(snapshotsQuery(place));
  const may = useMay();
  if (error instanceof ApiError && error.code === 'not-supported') return <Empty>{error.message}</Empty>;
  if (error) return <Problem error={error} />;
  if (!data) return <Empty>Asking the host …</Empty>;
  if (data.length === 0) return <Empty>No snapshots.</Empty>;
  return (
    <ul className="list">
      {data.map(({ id, current, allocationBytes }) => (
        <li key={id}>
          <span>
            {id} {current && <Badge tone="neutral">the present state</Badge>}
          </span>
          <Size bytes={allocationBytes} />
          <span className="tools">
            {!current && may('volume.download', place) && (
              <a
                className="button quiet"
                href={dataUrl(place, { as: 'content', snapshot: id })}
                download={`${volume.name}-${id}.raw`}
              >
                Download
              </a>
            )}
            {!current && may('snapshot.switch', place) && (
              <Button look="quiet" onPress={() => open({ snapshot: id, what: 'switch' })}>
                Go back …
              </Button>
            )}
            {!current && may('snapshot.delete', place) && (
              <Button look="quiet" onPress={() => open({ snapshot: id, what: 'delete' })}>
                Delete …
              </Button>
            )}
          </span>
        </li>
      ))}
    </ul>
  );
}

export function Volume({ place }: { place: VolumePlace }) {
  const { data: volume, error, refetch } = useQuery(volumeQuery(place));
  const [open, setOpen] = useState<Open>();
  const [, navigate] = useLocation();
  const may = useMay();
  const offered = volume ? VOLUME_COMMANDS.filter(([, action]) => may(action, place)) : [];
  useAsked(
    offered.map(([what]) => what),
    setOpen,
  );
  const close = (): void => setOpen(undefined);
  const crumbs = (
    <>
      <A to={linkTo.host(place.host)}>{place.host}</A> /{' '}
      <A to={linkTo.pool(place.host, place.pool)}>{place.pool}</A>
    </>
  );
  const snapshots = useQuery(snapshotsQuery(place));
  const hasNone = snapshots.error instanceof ApiError && snapshots.error.code === 'not-supported';
  const isGone = error instanceof ApiError && error.status === 404;
  if (!volume || isGone)
    return (
      <Page title={place.volume} crumbs={crumbs}>
        {isGone ? (
          <Gone place={place} reason={error.message} />
        ) : error ? (
          <Problem error={error} retry={() => void refetch()} />
        ) : (
          <Empty>Loading …</Empty>
        )}
      </Page>
    );
  const { users, heldBy, timestamps, encryption } = volume;
  return (
    <Page
      title={volume.name}
      crumbs={crumbs}
      tools={
        <>
          {may('volume.download', place) && (
            <a className="button plain" href={dataUrl(place, { as: 'image' })} download={volume.name}>
              Download
            </a>
          )}
          {offered.map(([what, , label]) => (
            <Button
              key={what}
              look={what === 'delete' || what === 'wipe' ? 'danger' : 'plain'}
              onPress={() => setOpen(what)}
            >
              {label}
            </Button>
          ))}
        </>
      }
    >
      {error && <Problem error={error} retry={() => void refetch()} />}
      {volume.damaged !== undefined && <Problem error={`It cannot be used: ${volume.damaged}`} />}
      <div className="columns-2">
        <Section title="Facts">
          <Facts
            rows={[
              ['Format', volume.format],
              ['Capacity', <Size key="c" bytes={volume.capacityBytes} />],
              ['On disk', <Size key="a" bytes={volume.allocationBytes} />],
              timestamps && ['Changed', <Time key="t" at={Number(timestamps.mtime) * 1000} />],
              ['Path', <code key="p">{volume.path}</code>],
              ['Id', <code key="i">{volume.id}</code>],
              encryption && ['Encrypted', encryption.format],
              volume.notes !== undefined && ['Notes', volume.notes],
              (volume.isBase || volume.isProtected) && [
                'State',
                <span key="s">
                  {volume.isBase && <Badge tone="neutral">base</Badge>}{' '}
                  {volume.isProtected && <Badge tone="good">protected</Badge>}
                </span>,
              ],
            ]}
          />
        </Section>
        <div>
          <Section title="Used by">
            {users === undefined ? (
              <Empty>Not known: the host has told of no domains yet.</Empty>
            ) : users.length === 0 && heldBy.length === 0 ? (
              <Empty>No domain uses it, and no job works on it.</Empty>
            ) : (
              <ul className="list">
                {users.map((user) => (
                  <li key={`${user.origin} ${user.domain} ${user.target}`}>
                    domain {user.domain} as {user.target}{' '}
                    <Badge tone={user.state === 'running' ? 'good' : 'neutral'}>{user.state}</Badge>
                  </li>
                ))}
                {heldBy.map((holder) => (
                  <li key={holder}>{holder}</li>
                ))}
              </ul>
            )}
          </Section>
          <Section title="Chain">
            <Chain volume={volume} />
          </Section>
          <Section
            title="Snapshots"
            tools={
              may('snapshot.create', place) &&
              !hasNone && <Button onPress={() => setOpen('snapshot')}>Take a snapshot …</Button>
            }
          >
            <Snapshots volume={volume} open={setOpen} />
          </Section>
        </div>
      </div>
      {may('audit.list', place) && (
        <Section title="What was done to it">
          <TrailOf target={referenceOf(place)} />
        </Section>
      )}
      {open === 'migrate' && <MigrateVolumes volumes={[volume]} close={close} done={() => undefined} />}
      {open === 'clone' && <CloneVolume volume={volume} close={close} />}
      {open === 'resize' && <ResizeVolume volume={volume} close={close} />}
      {open === 'rename' && <RenameVolume volume={volume} close={close} />}
      {open === 'base' && <BaseVolume volume={volume} close={close} />}
      {open === 'wipe' && <WipeVolume volume={volume} close={close} />}
      {open === 'notes' && <EditNotes volume={volume} close={close} />}
      {open === 'snapshot' && <SnapshotVolume volume={volume} close={close} />}
      {open === 'delete' && (
        <DeleteVolumes
          volumes={[place]}
          close={close}
          done={() => navigate(linkTo.pool(place.host, place.pool))}
        />
      )}
      {typeof open === 'object' && <SnapshotTask volume={volume} {...open} close={close} />}
    </Page>
  );
}
