/**
 * The one table of errors. A code is stable for ever: programs match on it, people read the message.
 * Over HTTP an error is an RFC 9457 problem (`application/problem+json`), in the CLI an exit status.
 */
export const ERRORS = {
  // what the caller sent
  'invalid-argument': 400,
  'invalid-name': 400,
  'invalid-xml': 400,
  'invalid-range': 416,
  'invalid-image': 422,
  'too-large': 413,
  unauthenticated: 401,
  'sign-in-refused': 401,
  'second-factor-missing': 401,
  'invitation-not-found': 404,
  'invitation-refused': 403,
  'cross-site': 403,
  forbidden: 403,
  // what is there, or is not
  'host-not-found': 404,
  'pool-not-found': 404,
  'volume-not-found': 404,
  'snapshot-not-found': 404,
  'domain-not-found': 404,
  'device-not-found': 404,
  'job-not-found': 404,
  'token-not-found': 404,
  'user-not-found': 404,
  'session-not-found': 404,
  'secret-not-found': 404,
  'secret-exists': 409,
  'secret-in-use': 409,
  'transfer-not-found': 404,
  'route-not-found': 404,
  'host-exists': 409,
  'pool-exists': 409,
  'volume-exists': 409,
  'snapshot-exists': 409,
  'domain-exists': 409,
  'file-exists': 409,
  'token-exists': 409,
  'user-exists': 409,
  'store-not-empty': 409,
  // what stands in the way
  'volume-in-use': 409,
  'volume-used': 409,
  'volume-mounted': 409,
  'volume-changed': 409,
  'volume-has-snapshots': 409,
  'volume-damaged': 409,
  'volume-protected': 409,
  'volume-is-base': 409,
  'volume-has-clones': 409,
  'volume-not-wiped': 409,
  'pool-inactive': 409,
  'pool-inaccessible': 503,
  'pool-active': 409,
  'pool-managed': 409,
  'secret-missing': 409,
  'secret-refused': 502,
  'pool-not-empty': 409,
  'pool-overcommitted': 409,
  'host-in-use': 409,
  'last-admin': 409,
  'job-state': 409,
  'domain-state': 409,
  'upload-offset': 409,
  'fence-stale': 409,
  'shrink-refused': 409,
  'no-space': 507,
  'not-supported': 501,
  'path-escapes-pool': 403,
  // what the bytes say
  'digest-mismatch': 422,
  'stream-corrupt': 400,
  'stream-cut': 400,
  // the road to a host
  'host-unreachable': 503,
  'host-key-mismatch': 502,
  'host-key-unknown': 502,
  'host-authentication': 502,
  'agent-start': 502,
  'protocol-version': 502,
  'provider-unreachable': 502,
  'enrolment-refused': 403,
  'ticket-refused': 403,
  // the machine under us
  'tool-missing': 501,
  'tool-failed': 500,
  'tool-stalled': 504,
  'audit-unwritable': 503,
  'audit-archived': 409,
  'rate-limited': 429,
  cancelled: 499,
  'io-error': 500,
  internal: 500,
} as const satisfies Record<string, number>;

export type ErrorCode = keyof typeof ERRORS;

const BRAND = Symbol.for('stowage.error');

/** An error with a stable code and a sentence a person can act on. */
export class StowageError extends Error {
  readonly code: ErrorCode;
  readonly [BRAND] = true;

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'StowageError';
    this.code = code;
  }

  /** HTTP status of the code. */
  get status(): number {
    return ERRORS[this.code];
  }
}

/** Whether it is one of ours, with one of these codes where some are given. */
export function isStowageError(error: unknown, ...codes: ErrorCode[]): error is StowageError {
  const isOurs = error instanceof Error && BRAND in error;
  return isOurs && (codes.length === 0 || codes.includes((error as StowageError).code));
}

/** An RFC 9457 problem body. `code` is the extension member programs match on. */
export interface Problem {
  type: string;
  title: string;
  status: number;
  detail: string;
  code: ErrorCode;
}

const ERRNO: Record<string, ErrorCode> = {
  ENOSPC: 'no-space',
  EDQUOT: 'no-space',
  EFBIG: 'too-large',
  ELOOP: 'path-escapes-pool',
  ECONNRESET: 'stream-cut',
  EPIPE: 'stream-cut',
  ERR_STREAM_PREMATURE_CLOSE: 'stream-cut',
};

/** Gives any thrown value a code: ours as they are, system errors by errno, the rest as `internal`. */
export function toStowageError(error: unknown): StowageError {
  if (isStowageError(error)) return error;
  if (error instanceof Error) {
    const errno = (error as NodeJS.ErrnoException).code;
    if (error.name === 'AbortError')
      return new StowageError('cancelled', 'the operation was cancelled', { cause: error });
    if (errno && ERRNO[errno]) return new StowageError(ERRNO[errno], error.message, { cause: error });
    if (errno && /^E[A-Z]+$/.test(errno))
      return new StowageError('io-error', error.message, { cause: error });
    return new StowageError('internal', error.message, { cause: error });
  }
  return new StowageError('internal', String(error));
}

/** The beginning of a text that may be long. */
export function cut(text: string, length: number): string {
  return text.length > length ? `${text.slice(0, length)}…` : text;
}

export function toProblem(error: StowageError): Problem {
  return {
    type: `urn:stowage:error:${error.code}`,
    title: error.code.replaceAll('-', ' '),
    status: error.status,
    // Documents and names are cited in messages, and may be as long as they like.
    detail: cut(error.message, 1000),
    code: error.code,
  };
}

/** The error a problem body stands for; anything else becomes `fallback`. */
export function fromProblem(body: unknown, fallback: ErrorCode, message: string): StowageError {
  if (typeof body === 'object' && body !== null && 'code' in body && 'detail' in body) {
    const { code, detail } = body as { code: unknown; detail: unknown };
    if (typeof code === 'string' && code in ERRORS)
      return new StowageError(code as ErrorCode, String(detail));
  }
  return new StowageError(fallback, message);
}
