import { finished } from 'node:stream/promises';
import { includesRole, mayTouch, type Place } from '../../shared/protocol/rights.ts';
import { StowageError, toStowageError } from '../../shared/util/errors.ts';
import { parseInput } from '../../shared/util/input.ts';
import type { AuditEntry } from '../audit/trail.ts';
import type { Principal } from '../auth/principal.ts';
import { inSpan } from '../traces/span.ts';
import type { Action, ByteStream, Call, Services } from './action.ts';

type Given = Record<string, unknown>;

/**
 * Throws `forbidden` unless a principal may do an action in the places that `given` tells, such as the path of a URL: before
 * anything else of the input is read.
 */
export function authorize(action: Action, principal: Principal, given: Record<string, string>): void {
  authorizeRole(action, principal);
  authorizePlaces(action, principal, action.places(given));
}

function authorizeRole(action: Action, principal: Principal): void {
  if (!includesRole(principal.role, action.role))
    throw new StowageError(
      'forbidden',
      `'${principal.name}' has the role ${principal.role}; ${action.name} needs ${action.role}`,
    );
}

/** Throws `forbidden` unless a principal may do an action in all of some places. */
export function authorizePlaces(
  action: Pick<Action, 'name' | 'touch'>,
  principal: Principal,
  places: readonly Place[],
): void {
  for (const place of places)
    if (!mayTouch(principal, place, action.touch))
      throw new StowageError(
        'forbidden',
        place.host === undefined
          ? `${action.name} is for those who may do it in the whole fleet; '${principal.name}' acts only in ${principal.scopes.join(', ')}`
          : `'${principal.name}' may do ${action.name} only in ${principal.scopes.join(', ')}`,
      );
}

/**
 * Does an action: authorised first; then its input is read, and whether it can be done; then it is put on record; then it is
 * done, and how that went is put on record. When the record cannot be written nothing is done (`audit-unwritable`). Who may
 * not do it, and what cannot be done, is on record as refused; input that is none is only told.
 */
export function perform(
  services: Services,
  action: Action,
  given: Given,
  call: Omit<Call, 'note'>,
): Promise<unknown> {
  const attributes = {
    'user.name': call.principal.name,
    'client.address': call.source,
  };
  return inSpan(action.name, { kind: 'server', attributes }, (span) =>
    performOnRecord(services, action, given, call, (target) => span.setAttribute('stowage.target', target)),
  );
}

async function performOnRecord(
  services: Services,
  action: Action,
  given: Given,
  call: Omit<Call, 'note'>,
  onTarget: (target: string) => void,
): Promise<unknown> {
  const notes: string[] = [];
  const noting: Call = { ...call, note: (text) => void notes.push(text) };
  const named = targetOf(given);
  const record = (outcome: AuditEntry['outcome'], target: string, detail?: string): Promise<number> =>
    services.audit.append({
      ...{ outcome, target, detail, action: action.name },
      actor: call.principal.name,
      source: call.source,
    });
  const refuse = async (error: unknown): Promise<never> => {
    const { message, code } = toStowageError(error);
    await record('refused', named, `${message} [${code}]`);
    throw error;
  };

  try {
    authorizeRole(action, call.principal);
  } catch (error) {
    return refuse(error);
  }
  const { document } = action;
  const isDocument = document !== undefined && typeof given.xml === 'string';
  const read = isDocument ? await document(services, given as Given & { xml: string }) : {};
  const input = parseInput(action.input, { ...given, ...read });
  try {
    authorizePlaces(action, call.principal, action.places(input));
  } catch (error) {
    return refuse(error);
  }
  let plan: unknown;
  try {
    plan = await action.plan(services, input, noting);
  } catch (error) {
    if (!action.audited) throw error;
    return refuse(error);
  }
  if (!action.audited) {
    onTarget(targetOf(input));
    return action.run(services, input, noting, plan);
  }

  const { target = targetOf(input), detail } = action.record(input, plan);
  onTarget(target);
  await record('begun', target, detail);
  const end = async (error?: unknown): Promise<void> => {
    const failure = error === undefined ? undefined : toStowageError(error);
    const words = failure ? [`${failure.message} [${failure.code}]`] : [detail ?? '', ...notes];
    await record(failure ? 'failed' : 'done', target, words.filter((word) => word !== '').join(', '));
  };
  try {
    const output = await action.run(services, input, noting, plan);
    if (action.answer === 'bytes') {
      void finished((output as ByteStream).body)
        .then(
          () => end(),
          () => end(new StowageError('cancelled', 'the client or the host went away')),
        )
        // It was read under the first record; that this one is missing shows in the trail.
        .catch(() => undefined);
    } else await end().catch(() => undefined);
    return output;
  } catch (error) {
    await end(error).catch(() => undefined);
    throw error;
  }
}

/** What an input is about: `host/pool/volume`, as much as there is; a job; a token. */
export function targetOf({ host, pool, volume, domain, job, token, user, name }: Given): string {
  const parts = [host, pool, domain, volume].filter((part) => typeof part === 'string');
  if (typeof job === 'number' || typeof job === 'string') parts.push(`job ${job}`);
  if (typeof token === 'string') parts.push(`token ${token}`);
  if (parts.length === 0 && typeof user === 'string') parts.push(`user ${user}`);
  if (parts.length === 0 && typeof name === 'string') parts.push(name);
  return parts.join('/');
}
