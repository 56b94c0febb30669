import { clock } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { type Channel, type Notices, reasonOf } from './channel.ts';

const PATIENCE_MS = 30_000;

/** Sends a message for trial over each channel, and says what came of it. Throws when there is none, or any took it not. */
export async function sendTrial(channels: readonly Channel[]): Promise<void> {
  if (channels.length === 0)
    throw new StowageError('invalid-argument', 'nobody is to be told: `notify` names no webhook and no mail');
  const at = clock.now();
  const item = {
    ...({ id: 'trial', kind: 'job-waiting', severity: 'warning', since: at } as const),
    ...{ summary: 'this is a trial', reason: 'somebody tries whether messages arrive' },
  };
  let failed = 0;
  for (const channel of channels) {
    const notices: Notices = { id: clock.uuid(), at, notices: [{ event: 'began', item }] };
    const outcome = await channel.send(notices, AbortSignal.timeout(PATIENCE_MS)).then(
      () => 'it was taken',
      (error: unknown) => {
        failed++;
        return reasonOf(error);
      },
    );
    console.log(`${channel.name}: ${outcome}`);
  }
  if (failed > 0)
    throw new StowageError('invalid-argument', `${failed} of ${channels.length} did not take it`);
}
