import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import type { AuditRecord, AuditVerdict } from '../../../shared/protocol/api.ts';
import { call } from '../api/client.ts';
import { auditQuery } from '../api/queries.ts';
import { useMay, WHOLE } from '../api/rights.ts';
import { Badge, Button, Empty, Page, Problem, type Tone } from '../parts/basics.tsx';
import { type ColumnOf, DataTable } from '../parts/data-table.tsx';
import { Field } from '../parts/form.tsx';
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
  { name: 'No', by: ({ seq }) => seq, width: 80, cell: ({ seq }) => seq },
  { name: 'Time', by: ({ at }) => at, width: 190, cell: ({ at }) => localTime(at) },
  { name: 'Who', by: ({ actor }) => actor, width: 120, cell: ({ actor }) => actor },
  { name: 'From', by: ({ source }) => source, width: 130, cell: ({ source }) => source },
  { name: 'Action', by: ({ action }) => action, width: 170, cell: ({ action }) => action },
  {
    name: 'On',
    by: ({ target }) => target,
    width: '2fr',
    cell: ({ target }) => <span title={target}>{target}</span>,
  },
  {
    name: 'Outcome',
    by: ({ outcome }) => outcome,
    width: 110,
    cell: ({ outcome }) => <Badge tone={TONES[outcome]}>{outcome}</Badge>,
  },
  { name: 'Detail', width: '3fr', cell: ({ detail }) => <span title={detail}>{detail}</span> },
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

export function Audit() {
  const [typed, setTyped] = useState({ actor: '', host: '' });
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
            ? `${counted(verdict.records, 'record')}, signed up to ${verdict.head?.hash.slice(0, 16)}`
            : `${verdict.reason}${verdict.badSeq === undefined ? '' : `, record ${verdict.badSeq}`}`}
        </p>
      )}
      <form
        className="filters"
        onSubmit={(event) => {
          event.preventDefault();
          setFilter(typed);
        }}
      >
        <Field label="Who" value={typed.actor} onChange={(actor) => setTyped({ ...typed, actor })} />
        <Field label="Host" value={typed.host} onChange={(host) => setTyped({ ...typed, host })} />
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
    </Page>
  );
}
