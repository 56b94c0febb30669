import assert from 'node:assert/strict';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { Page } from 'playwright-core';
import type { FleetVolume, Secret } from '../../shared/protocol/api.ts';
import { accept, checkAccess, choose, picture, TestBrowser } from '../support/browser.ts';
import { TestController, until } from '../support/controller.ts';
import { scratch } from '../support/scratch.ts';

/** What administrators do on the page, in a real browser, with the host of the controller itself. */
describe('administration on the page', () => {
  const room = scratch();
  let controller: TestController;
  let browser: TestBrowser;
  let page: Page;

  before(async () => {
    controller = await TestController.start(join(room.path, 'controller'), []);
    browser = await TestBrowser.start();
    page = await browser.open();
    await accept(page, controller.link, 'ada');
    await until('the first pool', async () => (await controller.cliOk('pool', 'list')).includes('running'));
  });
  after(async () => {
    await browser?.[Symbol.asyncDispose]();
    await controller?.[Symbol.asyncDispose]();
    await room[Symbol.asyncDispose]();
  });

  const dialog = () => page.getByRole('dialog');
  const press = (name: string) => dialog().getByRole('button', { name, exact: true }).click();
  const closed = () => dialog().waitFor({ state: 'hidden' });
  /** By the palette, as the keyboard reaches everything. */
  async function command(text: string, name: string | RegExp): Promise<void> {
    await page.keyboard.press('Control+k');
    await dialog().waitFor();
    await page.keyboard.type(text);
    // The first that was found is the one that Enter takes.
    await page.getByRole('menuitem', { name }).and(page.locator('[data-focused]')).waitFor();
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'Go to' }).waitFor({ state: 'hidden' });
    await dialog().waitFor();
  }

  test('a pool is made, of fields and of a document, shows its leftovers, and is deleted', async () => {
    await command('new po', /New pool/);
    await choose(page, 'Host', 'local');
    await checkAccess(page, 'dialog of a new pool');
    await picture(page, 'new-pool');
    await dialog().getByRole('button', { name: /Type/ }).click();
    // What does not work there is shown with the reason, and cannot be chosen.
    await page.getByRole('option', { name: 'logical', exact: false }).first().waitFor();
    await page.getByRole('option', { name: 'netfs' }).click();
    assert.ok(await dialog().getByRole('button', { name: 'Make the pool' }).isDisabled(), 'no server yet');
    await choose(page, 'Type', /^dir/);
    await dialog().getByLabel('Name').fill('made');
    await dialog().getByLabel('Target').fill('relative');
    await press('Make the pool');
    await dialog().getByText('the target must be an absolute path').waitFor();
    const path = join(room.path, 'made');
    await dialog().getByLabel('Target').fill(path);
    await press('Make the pool');
    await page.getByRole('heading', { level: 1, name: 'made' }).waitFor();
    assert.ok(existsSync(path));

    mkdirSync(join(path, 'nobodys'));
    writeFileSync(join(path, 'nobodys/file'), 'x'.repeat(5000));
    await page.getByRole('tab', { name: /Leftovers/ }).click();
    await page.getByRole('button', { name: 'Look for leftovers' }).click();
    await page.getByText(join(path, 'nobodys')).waitFor();
    await checkAccess(page, 'leftovers');

    await command('new po', /New pool/);
    await choose(page, 'Host', 'local');
    await choose(page, 'Type', "from libvirt's document");
    await dialog().getByRole('textbox', { name: 'Document' }).fill('<pool><name>x</name></pool>');
    await press('Make the pool');
    await dialog().getByRole('alert').waitFor();
    const other = join(room.path, 'other');
    await dialog()
      .getByRole('textbox', { name: 'Document' })
      .fill(`<pool type='dir'><name>other</name><target><path>${other}</path></target></pool>`);
    await press('Make the pool');
    await page.getByRole('heading', { level: 1, name: 'other' }).waitFor();
    await page.getByRole('button', { name: 'Stop …' }).click();
    await press('Stop');
    await closed();
    await page.getByRole('button', { name: 'Delete …' }).click();
    await checkAccess(page, 'dialog of deleting a pool');
    await dialog().getByText('Remove its directory, too').click();
    await dialog().getByLabel('Type the name').fill('other');
    await press('Delete');
    await page.getByRole('heading', { level: 1, name: 'local' }).waitFor();
    assert.ok(!existsSync(other));
    assert.ok(!(await controller.cliOk('pool', 'list')).includes('other'));
  });

  test('a pool gets limits, a host labels; its devices are looked for', async () => {
    await page.goto(`${controller.url}/pools/local/made`);
    await page.getByRole('button', { name: 'Limits …' }).click();
    await checkAccess(page, 'dialog of limits');
    await dialog().getByLabel('Warning').fill('96');
    await press('Save');
    await dialog().getByText('the limit of the warning must not be above').waitFor();
    await dialog().getByLabel('Warning').fill('70');
    await dialog().getByLabel('Volumes together').fill('250');
    await press('Save');
    await closed();
    await page.getByRole('tab', { name: 'Space' }).click();
    await page.getByText('warning at 70 %, critical at 95 %, volumes of at most 250 %').waitFor();
    await page.getByRole('button', { name: 'Limits …' }).click();
    await dialog().getByText('The usual ones').click();
    await press('Save');
    await closed();
    await page.getByText('warning at 80 %, critical at 95 %', { exact: true }).waitFor();

    await page.goto(`${controller.url}/hosts/local`);
    await page.getByRole('button', { name: 'Labels …' }).click();
    await dialog().getByLabel('Labels').fill('prod rack=3');
    await press('Save');
    await closed();
    await page.getByText('prod rack=3').waitFor();
    await page.getByRole('button', { name: 'Labels …' }).click();
    // What another gives it meanwhile stays.
    await controller.cliOk('host', 'label', 'local', 'theirs');
    await page.getByText('prod rack=3 theirs').waitFor();
    await dialog().getByLabel('Labels').fill('rack=4');
    await press('Save');
    await closed();
    const { labels } = await controller.api<{ labels: string[] }>('/hosts/local');
    assert.deepEqual(labels.sort(), ['rack=4', 'theirs']);

    await page.getByRole('button', { name: 'Look for devices' }).click();
    await page.getByRole('grid', { name: 'Devices' }).waitFor();
    await checkAccess(page, 'a host with its devices');
    await picture(page, 'host-devices');
  });

  test('an encrypted volume is made, by the name of its secret', async () => {
    await controller.api('/secrets', {
      ...{ kind: 'volume', usage: 'page-key', scopes: ['local'] },
      value: 'a passphrase of the page',
    });
    await page.goto(`${controller.url}/volumes#create`);
    await choose(page, 'Pool', /^local\/made/);
    await dialog().getByLabel('Name', { exact: true }).fill('sealed');
    await dialog().getByLabel('Capacity').fill('1M');
    await choose(page, 'Format', /^luks/);
    assert.ok(await dialog().getByRole('button', { name: 'Create' }).isDisabled());
    await dialog().getByLabel('Encrypt with the secret').fill('another');
    await press('Create');
    await dialog().getByText('no secret').waitFor();
    await dialog().getByLabel('Encrypt with the secret').fill('page-key');
    await checkAccess(page, 'dialog of an encrypted volume');
    await press('Create');
    await page.getByRole('heading', { level: 1, name: 'sealed' }).waitFor();
    const { format, encryption } = await controller.api<FleetVolume>(
      '/hosts/local/pools/made/volumes/sealed',
    );
    assert.deepEqual(
      { format, isEncrypted: encryption?.secret !== undefined },
      { format: 'luks', isEncrypted: true },
    );
    await controller.cliOk('vol', 'delete', 'local/made/sealed', '--yes');
    await controller.cliOk('secret', 'delete', encryption!.secret!, '--yes');
  });

  test('a link that was given out is withdrawn', async () => {
    await page.goto(`${controller.url}/people#invite`);
    await dialog().getByLabel('Name').fill('late');
    await press('Invite');
    await dialog().getByText('Give it to late').waitFor();
    await dialog().getByRole('button', { name: 'Close' }).click();
    await page.getByRole('grid', { name: 'Open invitations' }).getByText('late').waitFor();
    await checkAccess(page, 'open invitations');
    await page.getByRole('button', { name: 'Withdraw the link for late' }).click();
    await press('Withdraw');
    await closed();
    await page.getByRole('grid', { name: 'Open invitations' }).waitFor({ state: 'hidden' });
    assert.deepEqual(await controller.api('/open-invitations'), []);
  });

  test('a base is made and unmade, by what the palette offers for a volume', async () => {
    await controller.cliOk(
      'vol',
      'create',
      'local/made/template.qcow2',
      '--format',
      'qcow2',
      '--capacity',
      '1M',
    );
    await page.goto(`${controller.url}/volumes/local/made/template.qcow2`);
    await page.getByRole('heading', { level: 1, name: 'template.qcow2' }).waitFor();
    await command('base', /template.qcow2: Base/);
    await press('Make it a base');
    await closed();
    await page.getByText('base', { exact: true }).waitFor();
    await page.goto(`${controller.url}/volumes/local/made/template.qcow2#clone`);
    await dialog().getByText('Linked: it stands on this base').waitFor();
    assert.equal(new URL(page.url()).hash, '');
    await dialog().getByLabel('Name of the clone').fill('guest.qcow2');
    await press('Clone');
    await until('the clone', async () =>
      (await controller.cliOk('vol', 'list', 'local/made')).includes('guest.qcow2'),
    );
    await page.getByRole('button', { name: 'Base …' }).click();
    await press('Make it a volume again');
    await dialog().getByText('guest.qcow2').waitFor();
    await controller.cliOk('vol', 'delete', 'local/made/guest.qcow2', '--yes');
    await press('Make it a volume again');
    await closed();
  });

  test('the page, the palette and the dialog are about the volume that was chosen, whatever its name', async () => {
    const names = ['a#b', 'a%23b', 'q?x=1&y', 'plus+and,semi;@:$', '100%', 'ü <b>'];
    for (const name of names)
      await controller.api('/hosts/local/pools/made/volumes', { name, format: 'raw', capacityBytes: 4096 });
    for (const name of names) {
      await page.goto(`${controller.url}/pools/local/made`);
      await page.getByRole('link', { name, exact: true }).click();
      await page.getByRole('heading', { level: 1, name, exact: true }).waitFor();
      await page.reload();
      await page.getByRole('heading', { level: 1, name, exact: true }).waitFor();
      await command('delete', `${name}: Delete …`);
      await page.getByRole('heading', { name: `Delete local/made/${name}`, exact: true }).waitFor();
      await press('Cancel');
      await closed();
    }
  });

  test('a token is made, shown once, used and revoked', async () => {
    await command('new tok', /New token/);
    await checkAccess(page, 'dialog of a new token');
    await dialog().getByLabel('Name').fill('backup');
    await choose(page, 'Role', /^operator/);
    await dialog().getByLabel('Where').fill('local/made, local/nowhere');
    await press('Make the token');
    await page.getByRole('heading', { name: 'The secret of backup' }).waitFor();
    const secret = await dialog().locator('code').innerText();
    await checkAccess(page, 'secret of a token');
    await press('Close');
    assert.match((await controller.cliAs(secret, 'vol', 'list', 'local/made')).stdout, /template/);
    await page.reload();
    const row = page.getByRole('row').filter({ hasText: 'backup' });
    await row.getByText('local/made local/nowhere').waitFor();
    assert.ok(!(await page.content()).includes(secret));
    await row.getByRole('button', { name: 'Revoke backup' }).click();
    await press('Revoke');
    await row.waitFor({ state: 'detached' });
    assert.match((await controller.cliAs(secret, 'vol', 'list')).stderr, /unauthenticated/);
  });

  test('a secret is kept, changed and forgotten; its value comes back nowhere', async () => {
    const value = 'opens-volumes-4711';
    await command('new sec', /New secret/);
    await checkAccess(page, 'dialog of a new secret');
    await dialog().getByLabel('Usage').fill('disks');
    await dialog().getByLabel('Value').fill(value);
    assert.ok(await dialog().getByRole('button', { name: 'Save' }).isDisabled(), 'for nobody');
    await dialog().getByLabel('Where').fill('local');
    await press('Save');
    await closed();
    const [kept] = await controller.api<Secret[]>('/secrets');
    assert.deepEqual([kept?.usage, kept?.kind, kept?.scopes], ['disks', 'volume', ['local']]);
    const row = page.getByRole('row').filter({ hasText: 'disks' });
    await row.getByRole('button', { name: 'Another value for disks' }).click();
    await dialog().getByRole('textbox', { name: 'Value' }).fill('another-value');
    assert.ok(
      await dialog().getByRole('button', { name: 'Save' }).isDisabled(),
      'volumes may need the old one',
    );
    await dialog().getByText('Volumes encrypted with the value').click();
    await press('Save');
    await closed();
    const [changed] = await controller.api<Secret[]>('/secrets');
    assert.equal(changed?.id, kept?.id);
    assert.ok(changed!.changedAt > kept!.changedAt);
    assert.ok(!(await page.content()).includes(value));
    await row.getByRole('button', { name: 'Forget disks' }).click();
    await dialog().getByLabel('Type its usage').fill('disks');
    await press('Forget');
    await row.waitFor({ state: 'detached' });
    assert.deepEqual(await controller.api('/secrets'), []);
    assert.ok(!(await controller.cliOk('audit', 'list')).includes(value));
  });

  test('the browser had nothing to complain about', () => {
    assert.deepEqual(browser.complaints, []);
  });
});
