import { createTransport } from 'nodemailer';
import { VERSION } from '../../shared/version.ts';
import { type Channel, headline, type Notices } from './channel.ts';

export interface MailOptions {
  host: string;
  port: number;
  /** `tls` from the first byte on, `starttls` before anything is said, or `none`, for a server on the same machine. */
  security: 'tls' | 'starttls' | 'none';
  user?: string;
  password?: string;
  from: string;
  to: readonly string[];
}

/** Mail by SMTP, as text: one for all that is told at once. */
export function mail({ host, port, security, user, password, from, to }: MailOptions): Channel {
  const transport = createTransport({
    ...{
      host,
      port,
      secure: security === 'tls',
      requireTLS: security === 'starttls',
      ignoreTLS: security === 'none',
    },
    auth: user === undefined ? undefined : { user, pass: password ?? '' },
    ...{ connectionTimeout: 10_000, greetingTimeout: 10_000, socketTimeout: 20_000 },
    // What it sends is text; it fetches nothing for it.
    ...{ disableFileAccess: true, disableUrlAccess: true },
  });
  return {
    name: `mail ${to.join(' ')}`,
    async send(notices: Notices, signal) {
      const sending = transport.sendMail({
        ...{ from, to: [...to], subject: subjectOf(notices), text: textOf(notices) },
        messageId: `<${notices.id}@stowage.invalid>`,
        date: new Date(notices.at),
        headers: { 'Auto-Submitted': 'auto-generated', 'X-Mailer': `Stowage ${VERSION}` },
      });
      const ended = new Promise<never>((_, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
      });
      await Promise.race([sending, ended]);
    },
  };
}

function subjectOf({ notices }: Notices): string {
  const [first] = notices;
  const more = notices.length - 1;
  return `[stowage] ${headline(first!)}${more > 0 ? `, and ${more} more` : ''}`;
}

function textOf({ notices, url }: Notices): string {
  const lines = notices.map((notice) => {
    const { reason, since } = notice.item;
    const why = notice.event === 'over' || reason === '' ? '' : `\n  ${reason}`;
    return `${headline(notice)}${why}\n  since ${new Date(since).toISOString()}`;
  });
  return `${lines.join('\n\n')}\n${url === undefined ? '' : `\n${url}\n`}`;
}
