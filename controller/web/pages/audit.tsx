import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import type { AuditRecord, AuditVerdict } from '../../../shared/protocol/api.ts';
import { AUDIT_OUTCOMES } from '../../../shared/protocol/lists.ts';
import { call } from '../api/client.ts';
import { type AuditFilter, auditQuery, MOST_RECORDS, witnessesQuery } from '../api/queries.ts';
import { useMay, WHOLE } from '../api/rights.ts';
import { Badge, Button, Empty, Page, Problem, Time, type Tone } from '../parts/basics.tsx';
import { type ColumnOf, DataTable } from '../parts/data-table.tsx';
import { Choice, Field } from '../parts/form.tsx';
import { counted, localTime } from '../parts/format.ts';
import { toast } from '../parts/toasts.tsx';

const TONES: Record<AuditRecord['outcome'], Tone> = {
  begun: 'neutral',
  done: 'good',
  failed: 'bad',
  refused: 'warn',
};
const seqOf = ({ seq }: AuditRecord): string => String(seq);
const COLUMNS: readonly ColumnOf<AuditRecord>[] = [
  { name: 'No', by: ({ seq }) => seq, width: 70, cell: ({ seq }) => seq },
  { name: 'Time', by: ({ at }) => at, width: 170, cell: ({ at }) => localTime(at) },
  { name: 'Who', by: ({ actor }) => actor, width: 100, cell: ({ actor }) => actor },
  { name: 'From', by: ({ source }) => source, width: 110, cell: ({ source }) => source },
  { name: 'Action', by: ({ action }) => action, width: 180, cell: ({ action }) => action },
  {
    name: 'On',
    by: ({ target }) => target,
    width: '2fr',
    minWidth: 220,
    cell: ({ target }) => <span title={target}>{target}</span>,
  },
  {
    name: 'Outcome',
    by: ({ outcome }) => outcome,
    width: 110,
    cell: ({ outcome }) => <Badge tone={TONES[outcome]}>{outcome}</Badge>,
  },
  { name: 'Detail', width: '3fr', minWidth: 320, cell: ({ detail }) => <span title={detail}>{detail}</span> },
];

/** The part of the trail that is about one thing; that it is read is on record, so nobody reads it unasked. */
export function TrailOf({ target }: { target: string }) {
  const [isAsked, ask] = useState(false);
  const { data, error, refetch } = useQuery({ ...auditQuery({ target }), enabled: isAsked });
  if (!isAsked) return <Button onPress={() => ask(true)}>Show the trail</Button>;
  if (error) return <Problem error={error} retry={() => void refetch()} />;
  if (!data) return <Empty>Loading …</Empty>;
  return (
    <ul className="list">
      {data.toReversed().map(({ seq, at, actor, source, action, outcome, detail }) => (
        <li key={seq}>
          <span>
            <Badge tone={TONES[outcome]}>{outcome}</Badge> {action}
          </span>
          <span className="why">{detail}</span>
          <span>
            {actor} from {source}, {localTime(at)}
          </span>
        </li>
      ))}
    </ul>
  );
}

const HOUR_MS = 3600_000;
const SPANS = [
  { id: '', label: 'at any time' },
  { id: String(HOUR_MS), label: 'in the last hour' },
  { id: String(24 * HOUR_MS), label: 'in the last day' },
  { id: String(7 * 24 * HOUR_MS), label: 'in the last 7 days' },
  { id: String(30 * 24 * HOUR_MS), label: 'in the last 30 days' },
];
const OUTCOMES = [{ id: '', label: 'any' }, ...AUDIT_OUTCOMES.map((id) => ({ id, label: id }))];
const ANY: Required<Omit<AuditFilter, 'target'>> = {
  ...{ actor: '', host: '', action: '', outcome: '', withinMs: '' },
};

/** What is not in the store any more. */
const behind = ({ first }: AuditVerdict): string =>
  first === 1 ? '' : ` after record ${first - 1}, which is in archives with those before`;

/** Who sees the trail grow, from outside. */
function Witnesses() {
  const { data, error, refetch } = useQuery(witnessesQuery);
  if (error) return <Problem error={error} retry={() => void refetch()} />;
  return (
    <ul className="list">
      {data?.witnesses.map(({ name, seq, at, reason }) => (
        <li key={name}>
          <span>
            <Badge tone={reason === undefined ? 'good' : 'bad'}>witness</Badge> {name}
          </span>
          <span>
            {at === undefined ? (
              'has seen nothing yet'
            ) : (
              <>
                has seen it up to record {seq}, <Time at={at} />
              </>
            )}
          </span>
          {reason && <span className="why">{reason}</span>}
        </li>
      ))}
    </ul>
  );
}

export function Audit() {
  const [typed, setTyped] = useState(ANY);
  const type = (change: Partial<typeof ANY>): void => setTyped({ ...typed, ...change });
  const [filter, setFilter] = useState(typed);
  const [verdict, setVerdict] = useState<AuditVerdict>();
  const [isBusy, setBusy] = useState(false);
  const { data = [], error, refetch } = useQuery(auditQuery(filter));
  const may = useMay();
  const verify = async (): Promise<void> => {
    setBusy(true);
    try {
      setVerdict(await call<AuditVerdict>('/audit/verify'));
    } catch (failure) {
      toast((failure as Error).message, true);
    } finally {
      setBusy(false);
    }
  };
  return (
    <Page
      title="Audit"
      tools={
        <>
          <Button onPress={() => void verify()} isBusy={isBusy}>
            Verify
          </Button>
          {may('audit.export', WHOLE) && (
            <a className="button plain" href="/api/v1/audit/export" download="audit.jsonl">
              Export
            </a>
          )}
        </>
      }
    >
      {verdict && (
        <p role="status">
          <Badge tone={verdict.ok ? 'good' : 'bad'}>{verdict.ok ? 'whole' : 'broken'}</Badge>{' '}
          {verdict.ok
            ? `${counted(verdict.records, 'record')}${behind(verdict)}, signed up to ${verdict.head?.hash.slice(0, 16)}`
            : `${verdict.reason}${verdict.badSeq === undefined ? '' : `, record ${verdict.badSeq}`}`}
        </p>
      )}
      <Witnesses />
      <form
        className="filters"
        onSubmit={(event) => {
          event.preventDefault();
          setFilter(typed);
        }}
      >
        <Field label="Who" value={typed.actor} onChange={(actor) => type({ actor })} />
        <Field label="Host" value={typed.host} onChange={(host) => type({ host })} />
        <Field
          label="Action"
          value={typed.action}
          onChange={(action) => type({ action })}
          placeholder="volume.delete, or volume."
        />
        <Choice
          label="Outcome"
          value={typed.outcome}
          onChange={(outcome) => type({ outcome })}
          options={OUTCOMES}
        />
        <Choice
          label="When"
          value={typed.withinMs}
          onChange={(withinMs) => type({ withinMs })}
          options={SPANS}
        />
        <Button type="submit">Show</Button>
      </form>
      {error ? (
        <Problem error={error} retry={() => void refetch()} />
      ) : (
        <DataTable
          label="Audit trail, the newest first"
          rows={data}
          keyOf={seqOf}
          columns={COLUMNS}
          empty="No record meets this."
          sort={{ column: 'No', direction: 'descending' }}
        />
      )}
      {data.length === MOST_RECORDS && (
        <p className="why">These are the newest {MOST_RECORDS}: say more of those that you look for.</p>
      )}
    </Page>
  );
}
