import { z } from 'zod';
import { spanOf } from '../../shared/util/units.ts';
import { COSIGNATURE, noteKey } from '../audit/stowage-verify.ts';
import { LISTEN_WORDS, listenAddress } from './listen-address.ts';

export const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const;

/** What is in the URL may be told and logged; what signs in at its host has a file. */
const urlSchema = (error: string) =>
  z
    .url({ protocol: /^https?$/, error })
    .refine(
      (url) => !URL.canParse(url) || `${new URL(url).username}${new URL(url).password}` === '',
      'a URL has no user and no password',
    );

/** A span of time such as `90s`, `30m`, `12h` or `400d`, in ms. */
const spanSchema = z.string().transform((text, context) => {
  const spanMs = spanOf(text);
  if (spanMs !== undefined) return spanMs;
  context.addIssue("a span of time is a number and s, m, h or d, such as '12h' or '400d'");
  return z.NEVER;
});

/** An absolute path: what it starts from would be another one for a service than for a shell. */
const pathSchema = z.string().regex(/^\//, 'a path begins with /');

const yesOrNo = z.boolean('is true or false');
const SAMPLE_WORDS = 'is a number from 0 to 1';
const JOBS_WORDS = 'is a number from 1 to 100';

const groups = z.array(z.string().min(1)).default([]);

export const issuerSchema = urlSchema('an issuer is a URL such as https://login.example');

const openIdSchema = z
  .strictObject({
    issuer: issuerSchema,
    'client-id': z.string().min(1),
    /** Has the secret in it. */
    'client-secret-file': pathSchema,
    /** Groups of the provider whose people have the role. */
    viewers: groups,
    operators: groups,
    admins: groups,
  })
  .refine(
    ({ viewers, operators, admins }) => viewers.length + operators.length + admins.length > 0,
    'nobody could sign in: name groups under viewers, operators or admins',
  );

const timeOfDaySchema = z
  .string()
  .regex(/^([01]\d|2[0-3]):[0-5]\d$/, "a time of day is HH:MM, such as '22:00'");

const mailSchema = z
  .strictObject({
    host: z.string().min(1),
    port: z.int().min(1).max(65_535).default(587),
    security: z.enum(['tls', 'starttls', 'none']).default('starttls'),
    user: z.string().min(1).optional(),
    /** Has the password in it. */
    'password-file': pathSchema.optional(),
    from: z.string().min(3),
    to: z.array(z.string().min(3)).min(1),
  })
  .refine(
    (mail) => mail.user === undefined || mail.security !== 'none',
    "a password is sent with security 'tls' or 'starttls' only",
  )
  .refine(
    (mail) => (mail.user === undefined) === (mail['password-file'] === undefined),
    'user and password-file come together',
  );

/** Who is told of what wants attention. */
const notifySchema = z
  .strictObject({
    webhooks: z
      .array(
        z.strictObject({
          url: urlSchema('a URL such as https://alerts.example/stowage'),
          /** Has the secret in it that each message is signed with. */
          'secret-file': pathSchema,
        }),
      )
      .refine((all) => new Set(all.map(({ url }) => url)).size === all.length, 'two have the same URL')
      .default([]),
    mail: mailSchema.optional(),
    /** So long something must last before anybody is told. */
    after: spanSchema.default(120_000),
    /** When only what is critical is told. */
    quiet: z
      .strictObject({
        from: timeOfDaySchema,
        to: timeOfDaySchema,
        zone: z.string().refine(isZone, "there is no such time zone; such as 'Europe/Vienna'").optional(),
      })
      .optional(),
  })
  .refine(
    ({ webhooks, mail }) => webhooks.length > 0 || mail !== undefined,
    'nobody would be told: name webhooks or mail',
  );

/** By which what a witness has signed is known. */
const witnessKeySchema = z.string().transform((text, context) => {
  try {
    const key = noteKey(text);
    if (key.type === COSIGNATURE) return key;
    context.addIssue('it is the key of a trail, and not the one of a witness');
  } catch (error) {
    context.addIssue((error as Error).message);
  }
  return z.NEVER;
});

/** What is done with the audit trail as it is made. */
const auditSchema = z
  .strictObject({
    /** JSON Lines. */
    file: pathSchema,
    /** RFC 5424 over TLS. */
    syslog: z
      .strictObject({
        host: z.string().min(1),
        port: z.int().min(1).max(65_535).default(6514),
        'ca-file': pathSchema.optional(),
        'cert-file': pathSchema.optional(),
        'key-file': pathSchema.optional(),
      })
      .refine(
        (syslog) => (syslog['cert-file'] === undefined) === (syslog['key-file'] === undefined),
        'cert-file and key-file come together',
      ),
    /** Records stay in the store so long, and then go into archives. */
    keep: spanSchema,
    archives: pathSchema,
    /** Who sees it grow, from outside, and signs what it has seen (C2SP tlog-witness). */
    witnesses: z
      .array(
        z.strictObject({
          url: urlSchema('a URL such as https://witness.example'),
          key: witnessKeySchema,
        }),
      )
      .min(1)
      .refine((all) => new Set(all.map(({ key }) => key.name)).size === all.length, 'two have the same name'),
    /** A file that sees it grow: JSON Lines. */
    checkpoints: pathSchema,
    /** How witnesses know the trail: a URL without a scheme. */
    origin: z
      .string()
      .regex(/^[^\s+]{1,200}$/, "an origin is a URL without a scheme, such as 'storage.example/audit'"),
  })
  .partial()
  .refine(
    ({ origin: _, ...audit }) => Object.values(audit).some((value) => value !== undefined),
    'it says nothing: name a file, syslog, archives, witnesses or checkpoints',
  )
  .refine(
    ({ keep, archives }) => (keep === undefined) === (archives === undefined),
    'keep and archives come together',
  );

/** Where OpenTelemetry traces are sent, by OTLP over HTTP. */
const tracesSchema = z.strictObject({
  /** Of the collector: `/v1/traces` is put behind it. */
  endpoint: urlSchema('a URL such as http://127.0.0.1:4318').refine(
    (url) => !/[?#]/.test(url),
    '/v1/traces is put behind it: it has no query and no fragment',
  ),
  /** Of the traces that begin here. */
  sample: z.number().min(0, SAMPLE_WORDS).max(1, SAMPLE_WORDS).default(1),
  /** Lines `NAME: VALUE`, such as what the collector knows us by. */
  'headers-file': pathSchema.optional(),
  'ca-file': pathSchema.optional(),
});

function isZone(zone: string): boolean {
  try {
    new Intl.DateTimeFormat('en', { timeZone: zone });
    return true;
  } catch {
    return false;
  }
}

/** What the configuration file of a controller may say. A key that is an option, too, has the name and the meaning of the option. */
export const configurationSchema = z
  .strictObject({
    data: pathSchema,
    listen: z.string().refine(listenAddress, LISTEN_WORDS),
    'public-url': urlSchema('a URL such as https://storage.example'),
    'local-agent': yesOrNo,
    command: yesOrNo,
    'jobs-per-host': z.int(JOBS_WORDS).min(1, JOBS_WORDS).max(100, JOBS_WORDS),
    tls: yesOrNo,
    'tls-cert': pathSchema,
    'tls-key': pathSchema,
    'trust-proxy': z.array(z.string().min(1), "is a list, such as ['127.0.0.1', '10.0.0.0/8']"),
    'log-level': z.enum(LOG_LEVELS, `is one of ${LOG_LEVELS.join(', ')}`),
    /** Has the `postgres://` URL of the store in it, which may hold a password. */
    'store-file': pathSchema,
    'open-id': openIdSchema,
    notify: notifySchema,
    audit: auditSchema,
    traces: tracesSchema,
  })
  .partial();

export type Configuration = z.infer<typeof configurationSchema>;
