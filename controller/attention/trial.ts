import { clock } from '../../shared/util/clock.ts';
import { type Channel, type Notices, reasonOf } from './channel.ts';

const PATIENCE_MS = 30_000;

/** What came of a message for trial; `refusal` tells why it was not taken. */
export interface Trial {
  channel: string;
  refusal?: string;
}

/** Sends a message for trial over each channel, one after the other. */
export async function* tryChannels(channels: readonly Channel[]): AsyncGenerator<Trial> {
  const at = clock.now();
  const item = {
    ...({ id: 'trial', kind: 'trial', severity: 'warning', since: at } as const),
    ...{ summary: 'this is a trial', reason: 'somebody tries whether messages arrive' },
  };
  for (const channel of channels) {
    const notices: Notices = { id: clock.uuid(), at, notices: [{ event: 'began', item }] };
    const refusal = await channel
      .send(notices, AbortSignal.timeout(PATIENCE_MS))
      .then(() => undefined, reasonOf);
    yield { channel: channel.name, refusal };
  }
}
