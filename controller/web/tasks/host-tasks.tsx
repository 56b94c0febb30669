import { useState } from 'react';
import { useLocation } from 'wouter';
import type { Host } from '../../../shared/protocol/api.ts';
import { call, hostPath } from '../api/client.ts';
import { client } from '../api/queries.ts';
import { Task } from '../parts/dialog.tsx';
import { Field } from '../parts/form.tsx';
import { toast } from '../parts/toasts.tsx';

export function RemoveHost({ name, close }: { name: string; close(): void }) {
  const [, navigate] = useLocation();
  return (
    <Task
      title={`Remove the host ${name}`}
      verb="Remove"
      isDanger
      close={close}
      toType={{ what: 'the name', text: name }}
      run={async () => {
        await call(hostPath(name), { method: 'DELETE' });
        toast(`host ${name} is forgotten`);
        navigate('/hosts');
      }}
    >
      <p>
        The controller forgets it. Nothing on the host is touched: its pools, its volumes and its agent stay.
      </p>
    </Task>
  );
}

export function LabelHost({ host: { name, labels: now }, close }: { host: Host; close(): void }) {
  // What others change meanwhile stays as they made it.
  const [labels] = useState(now);
  const [text, setText] = useState(labels.join(' '));
  return (
    <Task
      title={`Labels of ${name}`}
      verb="Save"
      close={close}
      run={async () => {
        const wanted = text.split(/[\s,]+/).filter((part) => part !== '');
        const json = {
          add: wanted.filter((label) => !labels.includes(label)),
          remove: labels.filter((label) => !wanted.includes(label)),
        };
        await call(`${hostPath(name)}/labels`, { method: 'POST', json });
        await client.invalidateQueries({ queryKey: ['host', name] });
        await client.invalidateQueries({ queryKey: ['hosts'] });
      }}
    >
      <Field
        label="Labels"
        value={text}
        onChange={setText}
        hint="such as prod or rack=3, with spaces between"
        autoFocus
      />
      <p>Users, tokens and secrets can be limited to the hosts that have a label.</p>
    </Task>
  );
}
