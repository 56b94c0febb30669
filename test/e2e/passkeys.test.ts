import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { AuditRecord, OwnAccount, User } from '../../shared/protocol/api.ts';
import { Authenticator } from '../support/authenticator.ts';
import { TestController } from '../support/controller.ts';
import { cookieOf, JSON_BODY, PASSWORD, SAME_ORIGIN, signedIn } from '../support/people.ts';
import { scratch } from '../support/scratch.ts';

const ORIGIN = 'https://storage.example';
const room = scratch();
let controller: TestController;
before(async () => {
  controller = await TestController.start(join(room.path, 'data'), ['--public-url', ORIGIN]);
});
after(async () => {
  await controller[Symbol.asyncDispose]();
  await room[Symbol.asyncDispose]();
});

type Asked = Parameters<Authenticator['sign']>[0];

async function ask(method: string, path: string, json?: unknown, cookie = ''): Promise<Response> {
  return fetch(`${controller.url}/api/v1${path}`, {
    method,
    headers: { ...(json === undefined ? SAME_ORIGIN : JSON_BODY), cookie },
    body: json === undefined ? undefined : JSON.stringify(json),
  });
}
const read = async <T>(response: Response): Promise<T> => (await response.json()) as T;
const codeOf = async (response: Response): Promise<string> => (await read<{ code: string }>(response)).code;
const begin = (name: string, more: object = {}) =>
  ask('POST', '/session', { name, password: PASSWORD, ...more });
const askToSignIn = async (): Promise<Asked> => read(await ask('POST', '/session/passkey/ask', {}));
const askToRegister = async (cookie: string): Promise<Asked> =>
  read(await ask('POST', '/account/passkeys/ask', {}, cookie));
const add = (cookie: string, made: object, more: object = {}) =>
  ask('POST', '/account/passkeys', { name: 'my laptop', password: PASSWORD, ...made, ...more }, cookie);
const enter = (answer: object) => ask('POST', '/session/passkey', answer);
const accountOf = async (cookie: string): Promise<OwnAccount> =>
  read(await ask('GET', '/account', undefined, cookie));

/** A user with a passkey. */
async function withPasskey(name: string): Promise<{ cookie: string; authenticator: Authenticator }> {
  const cookie = await signedIn(controller, name, 'viewer');
  const authenticator = new Authenticator(ORIGIN);
  assert.equal((await add(cookie, authenticator.register(await askToRegister(cookie)))).status, 204);
  return { cookie, authenticator };
}

describe('passkeys', () => {
  test('one lets its user in, and the password alone does not any more', async () => {
    const { cookie, authenticator } = await withPasskey('ada');
    assert.equal(await codeOf(await begin('ada')), 'second-factor-missing');
    const entered = await enter(authenticator.sign(await askToSignIn()));
    assert.equal(entered.status, 204);
    const account = await accountOf(cookieOf(entered));
    assert.deepEqual(
      account.passkeys.map(({ id, name }) => ({ id, name })),
      [{ id: authenticator.id, name: 'my laptop' }],
    );
    assert.ok(account.passkeys[0]!.usedAt);
    assert.deepEqual([account.hasSecondFactor, account.hasCodes], [true, false]);
    assert.ok(
      (await read<User[]>(await controller.fetch('/users'))).find(({ name }) => name === 'ada')
        ?.hasSecondFactor,
    );
    const records = await controller.api<AuditRecord[]>('/audit?limit=1000');
    const [one] = records.filter(({ detail }) => detail === "by passkey 'my laptop'");
    assert.deepEqual([one?.actor, one?.action, one?.outcome], ['ada', 'session.begin', 'done']);
    for (const { id } of account.passkeys)
      assert.equal(
        (await ask('POST', `/account/passkeys/${id}/remove`, { password: 'wrong wrong wrong' }, cookie))
          .status,
        401,
      );
    const { id } = account.passkeys[0]!;
    assert.equal(
      (await ask('POST', `/account/passkeys/${id}/remove`, { password: PASSWORD }, cookie)).status,
      204,
    );
    assert.equal(await codeOf(await enter(authenticator.sign(await askToSignIn()))), 'sign-in-refused');
    assert.equal((await begin('ada')).status, 204);
  });

  test('nothing but an answer of this passkey, at this place, to this question, once, lets anybody in', async () => {
    const { authenticator } = await withPasskey('bob');
    const other = await withPasskey('carl');
    const asked = await askToSignIn();
    const answer = authenticator.sign(asked);
    assert.equal((await enter(answer)).status, 204);
    const stranger = new Authenticator(ORIGIN);
    const cases: [string, object][] = [
      ['a second time', answer],
      [
        'to another question',
        { ...authenticator.sign(await askToSignIn()), state: (await askToSignIn()).state },
      ],
      [
        'at another site',
        authenticator.sign(await askToSignIn(), { origin: 'https://storage.example.evil' }),
      ],
      ['for another site', authenticator.sign(await askToSignIn(), { rpId: 'evil.example' })],
      ['without finger or PIN', authenticator.sign(await askToSignIn(), { isUnverified: true })],
      ['as another passkey', authenticator.sign(await askToSignIn(), { id: other.authenticator.id })],
      ['for somebody else', authenticator.sign(await askToSignIn(), { userHandle: 'Y2FybA' })],
      ['of nobody', stranger.sign(await askToSignIn(), { userHandle: 'AAAA' })],
      ['a made up state', { ...authenticator.sign(await askToSignIn()), state: 'AAAA' }],
    ];
    for (const [name, given] of cases)
      assert.equal(await codeOf(await enter(given)), 'sign-in-refused', name);
    authenticator.counter = 0;
    assert.equal(
      await codeOf(await enter(authenticator.sign(await askToSignIn()))),
      'sign-in-refused',
      'a copy of it',
    );
    for (const given of [
      {},
      { state: 'x' },
      { state: 'x', response: {} },
      { ...answer, response: { id: 7 } },
    ])
      assert.equal(await codeOf(await enter(given)), 'invalid-argument');
    authenticator.counter = 20;
    const twice = authenticator.sign(await askToSignIn());
    const both = await Promise.all([enter(twice), enter(twice)]);
    assert.deepEqual(both.map(({ status }) => status).sort(), [204, 401]);
  });

  test('none is added without the password, for somebody else, twice, or from elsewhere', async () => {
    const cookie = await signedIn(controller, 'dora', 'viewer');
    const erin = await signedIn(controller, 'erin', 'viewer');
    const key = new Authenticator(ORIGIN);
    const made = async (lie = {}) => key.register(await askToRegister(cookie), lie);
    for (const [name, answer] of [
      ['a wrong password', await add(cookie, await made(), { password: 'wrong wrong wrong' })],
      ['a question to somebody else', await add(erin, await made())],
      ['another site', await add(cookie, await made({ origin: 'https://evil.example' }))],
      ['no finger', await add(cookie, await made({ isUnverified: true }))],
      [
        'what was asked to sign in',
        await add(cookie, { ...(await made()), state: (await askToSignIn()).state }),
      ],
    ] as const)
      assert.equal(await codeOf(answer), 'sign-in-refused', name);
    assert.deepEqual((await accountOf(cookie)).passkeys, []);
    const once = await made();
    assert.equal((await add(cookie, once)).status, 204);
    assert.equal(await codeOf(await add(cookie, once)), 'sign-in-refused', 'the answer is used');
    assert.equal(
      await codeOf(await add(erin, key.register(await askToRegister(erin)))),
      'sign-in-refused',
      'taken',
    );
    assert.equal(await codeOf(await add(cookie, await made(), { name: ' ' })), 'invalid-argument');
    const token = await controller.fetch('/account/passkeys/ask', { method: 'POST' });
    assert.equal(token.status, 403, 'a token has none');
  });

  test('a recovery code lets in once, beside the password; new ones end the old; nothing of them is kept', async () => {
    const { cookie } = await withPasskey('fay');
    const make = async (): Promise<string[]> =>
      (
        await read<{ codes: string[] }>(
          await ask('POST', '/account/recovery-codes', { password: PASSWORD }, cookie),
        )
      ).codes;
    const old = await make();
    const codes = await make();
    assert.equal(codes.length, 10);
    assert.match(codes[0]!, /^[A-Z2-7]{4}(-[A-Z2-7]{4}){3}$/);
    assert.equal(await codeOf(await begin('fay', { code: old[0] })), 'sign-in-refused');
    const typed = codes[0]!.toLowerCase().replaceAll('-', ' ');
    const both = await Promise.all([begin('fay', { code: typed }), begin('fay', { code: codes[0] })]);
    assert.deepEqual(both.map(({ status }) => status).sort(), [204, 401]);
    assert.equal((await accountOf(cookie)).recoveryCodesLeft, 9);
    assert.equal(
      await codeOf(
        await ask('POST', '/session', { name: 'fay', password: 'wrong wrong wrong', code: codes[1] }),
      ),
      'sign-in-refused',
    );
    const records = await controller.api<AuditRecord[]>('/audit?limit=1000');
    assert.ok(records.some(({ detail }) => detail === 'by password and recovery code; 9 are left'));
    for (const file of ['stowage.db', 'stowage.db-wal']) {
      const bytes = readFileSync(join(controller.directory, file));
      for (const code of codes) assert.ok(!bytes.includes(code) && !bytes.includes(code.replaceAll('-', '')));
    }
  });

  test('a reset by an administrator takes passkeys and codes away', async () => {
    const { cookie, authenticator } = await withPasskey('gus');
    await ask('POST', '/account/recovery-codes', { password: PASSWORD }, cookie);
    const token = new URL((await controller.cliOk('user', 'reset', 'gus')).trim()).hash.slice(1);
    assert.equal((await ask('POST', '/invitation/accept', { token, password: PASSWORD })).status, 204);
    assert.equal(await codeOf(await enter(authenticator.sign(await askToSignIn()))), 'sign-in-refused');
    const again = await begin('gus');
    assert.equal(again.status, 204);
    assert.equal((await accountOf(cookieOf(again))).recoveryCodesLeft, 0);
    await controller.cliOk('user', 'remove', 'gus', '--yes');
  });
});

test('at an address without a name there are no passkeys, and that is said', async () => {
  await using bare = await TestController.start(join(room.path, 'bare'), []);
  const response = await fetch(`${bare.url}/api/v1/session/passkey/ask`, {
    method: 'POST',
    headers: JSON_BODY,
    body: '{}',
  });
  assert.equal(response.status, 501);
  assert.match(((await response.json()) as { detail: string }).detail, /open this page under a name/);
});
