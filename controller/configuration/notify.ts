import type { Channel } from '../attention/channel.ts';
import { mail } from '../attention/mail.ts';
import type { WatchOptions } from '../attention/watch.ts';
import { webhook } from '../attention/webhook.ts';
import type { Configuration } from './schema.ts';
import { secretIn } from './secret-file.ts';

/** How people are told of what wants attention; undefined where nobody is. Throws `invalid-argument` for a secret that cannot be read. */
export function notifyOptions({ notify, 'public-url': url }: Configuration): WatchOptions | undefined {
  if (!notify) return undefined;
  const channels: Channel[] = notify.webhooks.map((each) =>
    webhook({ url: each.url, secret: secretIn(each['secret-file']) }),
  );
  if (notify.mail) {
    const { 'password-file': file, ...options } = notify.mail;
    const password = file === undefined ? undefined : secretIn(file);
    channels.push(...options.to.map((to) => mail({ ...options, password }, to)));
  }
  return channels.length > 0 ? { channels, delayMs: notify.after, quiet: notify.quiet, url } : undefined;
}
