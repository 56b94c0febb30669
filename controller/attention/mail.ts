import { createTransport } from 'nodemailer';
import { VERSION } from '../../shared/version.ts';
import { type Channel, headline, type Notices } from './channel.ts';

const CONNECT_MS = 10_000;
/** RFC 5321 lets a server think for minutes before it takes a message. */
const ANSWER_MS = 5 * 60_000;

export interface MailOptions {
  host: string;
  port: number;
  /** `tls` from the first byte on, `starttls` before anything is said, or `none`, for a server on the same machine. */
  security: 'tls' | 'starttls' | 'none';
  user?: string;
  password?: string;
  from: string;
}

/** Mail to one person by SMTP, as text: one for all that is told at once. Whom a server refuses keeps nobody else from theirs. */
export function mail({ host, port, security, user, password, from }: MailOptions, to: string): Channel {
  const transport = createTransport({
    ...{ host, port, secure: security === 'tls' },
    ...{ requireTLS: security === 'starttls', ignoreTLS: security === 'none' },
    auth: user === undefined ? undefined : { user, pass: password ?? '' },
    ...{ connectionTimeout: CONNECT_MS, greetingTimeout: CONNECT_MS, socketTimeout: ANSWER_MS },
    // What it sends is text; it fetches nothing for it.
    ...{ disableFileAccess: true, disableUrlAccess: true },
  });
  return {
    name: `mail ${to}`,
    async send(notices: Notices, signal) {
      const sending = transport.sendMail({
        ...{ from, to, subject: subjectOf(notices), text: textOf(notices) },
        messageId: `<${notices.id}@stowage.invalid>`,
        date: new Date(notices.at),
        headers: { 'Auto-Submitted': 'auto-generated', 'X-Mailer': `Stowage ${VERSION}` },
      });
      const ended = new Promise<never>((_, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
      });
      await Promise.race([sending.catch((error) => Promise.reject(withoutAnswer(error))), ended]);
    },
  };
}

/** A server may repeat in its answer what it was told, which may be the password. */
function withoutAnswer(error: Error): Error {
  const { response, responseCode, command } = error as Error & {
    response?: string;
    responseCode?: number;
    command?: string;
  };
  if (response === undefined) return error;
  return new Error(`the server answered ${responseCode ?? 'with an error'} to ${command ?? 'a command'}`);
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
    return `${headline(notice)}${why}${since > 0 ? `\n  since ${new Date(since).toISOString()}` : ''}`;
  });
  return `${lines.join('\n\n')}\n${url === undefined ? '' : `\n${url}\n`}`;
}
