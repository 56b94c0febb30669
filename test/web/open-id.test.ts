import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import type { Server } from 'node:http';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Provider } from 'oidc-provider';
import type { Page } from 'playwright-core';
import { TestBrowser } from '../support/browser.ts';
import { TestController } from '../support/controller.ts';
import { freePort } from '../support/hosts.ts';
import { scratch } from '../support/scratch.ts';

/** Whom the provider knows, and their groups. */
const PEOPLE: Record<string, { name: string; groups?: string[] }> = {
  s1: { name: 'olga', groups: ['staff', 'storage'] },
  s2: { name: 'nina', groups: ['sales'] },
  s3: { name: 'admin', groups: ['storage'] },
};

/** People of an OpenID provider, a real one, sign in on the page. */
describe('signing in by an OpenID provider', () => {
  const room = scratch();
  let controller: TestController;
  let browser: TestBrowser;
  let server: Server;
  let issuer: string;

  before(async () => {
    const port = await freePort();
    issuer = `http://127.0.0.1:${port}`;
    const secret = randomBytes(32).toString('hex');
    const secretFile = join(room.path, 'secret');
    writeFileSync(secretFile, `${secret}\n`);
    controller = await TestController.start(join(room.path, 'data'), ['--no-local-agent'], {
      STOWAGE_OIDC_ISSUER: issuer,
      STOWAGE_OIDC_CLIENT_ID: 'stowage',
      STOWAGE_OIDC_CLIENT_SECRET_FILE: secretFile,
      STOWAGE_OIDC_VIEWERS: 'staff',
      STOWAGE_OIDC_OPERATORS: 'storage, others',
    });
    const provider = new Provider(issuer, {
      clients: [
        {
          client_id: 'stowage',
          client_secret: secret,
          redirect_uris: [`${controller.url}/api/v1/session/open-id/back`],
        },
      ],
      claims: { openid: ['sub'], profile: ['preferred_username'], groups: ['groups'] },
      scopes: ['openid', 'profile', 'email', 'groups'],
      conformIdTokenClaims: false,
      pkce: { required: () => true },
      findAccount: (_context, id) => ({
        accountId: id,
        claims: () => ({ sub: id, preferred_username: PEOPLE[id]!.name, groups: PEOPLE[id]!.groups }),
      }),
    });
    server = provider.listen(port, '127.0.0.1');
    browser = await TestBrowser.start();
    browser.ignored = /./;
  });
  after(async () => {
    await browser?.[Symbol.asyncDispose]();
    await controller?.[Symbol.asyncDispose]();
    server?.close();
    server?.closeAllConnections();
    await room[Symbol.asyncDispose]();
  });

  /** Goes to the provider, and says there who they are. */
  async function come(id: string): Promise<Page> {
    const page = await browser.open();
    await page.goto(controller.url);
    await page.getByRole('link', { name: 'Sign in with your organisation' }).click();
    await page.waitForURL(`${issuer}/**`);
    await page.locator('input[name=login]').fill(id);
    await page.locator('input[name=password]').fill('any');
    await page.getByRole('button', { name: 'Sign-in' }).click();
    await page.getByRole('button', { name: 'Continue' }).click();
    await page.waitForURL(`${controller.url}/**`);
    return page;
  }

  test('their groups give them their role, now and the next time', async () => {
    // Whoever has this link sets no password for her who comes by the provider.
    await controller.cliOk('user', 'invite', 'olga', '--role', 'viewer');
    const page = await come('s1');
    assert.deepEqual(await controller.api('/open-invitations'), []);
    await page.getByText('olga, operator').waitFor();
    await page.context().close();
    PEOPLE.s1!.groups = ['staff'];
    const again = await come('s1');
    await again.getByText('olga, viewer').waitFor();
    // What would have to be confirmed by a password is not offered to whoever has none.
    await again.goto(`${controller.url}/account`);
    await again.getByText('By the provider of your organisation').waitFor();
    assert.equal(await again.getByRole('button', { name: /password|Add …|Turn on/ }).count(), 0);
    assert.equal((await controller.cliOk('user', 'list')).match(/olga/g)?.length, 1);
    assert.match(
      await controller.cliOk('audit', 'list'),
      /olga.*session\.begin\s+user olga\s+done\s+by OpenID, as viewer/,
    );
    await again.context().close();
  });

  test('whoever has no role, or the name of somebody else, is not let in, and told so', async () => {
    const none = await come('s2');
    await none.getByText('you have no role here').waitFor();
    await none.context().close();
    const taken = await come('s3');
    await taken.getByText('Another user, or a token, has your name here').waitFor();
    await taken.context().close();
    assert.match(
      await controller.cliOk('audit', 'list'),
      /refused\s+'nina' is in no group that has a role here/,
    );
  });

  test('what comes back without having gone, or with another state, is refused', async () => {
    for (const query of ['', '?code=x&state=y', '?error=access_denied&state=y']) {
      const response = await fetch(`${controller.url}/api/v1/session/open-id/back${query}`, {
        redirect: 'manual',
      });
      assert.equal(response.status, 302);
      assert.match(response.headers.get('location')!, /^\/\?refused=/);
      assert.ok(!response.headers.getSetCookie().some((cookie) => cookie.startsWith('__Host-stowage=')));
    }
    const begun = await fetch(`${controller.url}/api/v1/session/open-id`, { redirect: 'manual' });
    const kept = begun.headers.getSetCookie()[0]!.split(';')[0]!;
    const forged = await fetch(`${controller.url}/api/v1/session/open-id/back?code=x&state=other`, {
      ...{ redirect: 'manual', headers: { cookie: kept } },
    });
    assert.match(forged.headers.get('location')!, /^\/\?refused=sign-in-refused/);
  });

  test('a provider that is down refuses nobody: it is told, and is no try', async () => {
    const open = (path: string, cookie = '') =>
      fetch(`${controller.url}/api/v1/session/open-id${path}`, { redirect: 'manual', headers: { cookie } });
    const begun = await open('');
    const kept = begun.headers.getSetCookie()[0]!.split(';')[0]!;
    const state = new URL(begun.headers.get('location')!).searchParams.get('state')!;
    server.close();
    server.closeAllConnections();
    for (let round = 0; round < 40; round++) {
      const back = await open(`/back?${new URLSearchParams({ code: 'x', state, iss: issuer })}`, kept);
      assert.equal(back.headers.get('location'), '/?refused=provider-unreachable');
    }
    await controller.kill('SIGTERM');
    await controller.restart();
    assert.equal((await open('')).headers.get('location'), '/?refused=provider-unreachable');
    const page = await browser.open();
    await page.goto(controller.url);
    await page.getByRole('link', { name: 'Sign in with your organisation' }).click();
    await page.getByText('Your provider does not answer').waitFor();
    await page.context().close();
    assert.match(await controller.cliOk('audit', 'list'), /failed\s+the OpenID provider does not/);
  });
});
