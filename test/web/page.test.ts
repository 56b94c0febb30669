import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { Page } from 'playwright-core';
import { VOLUME_FORMATS } from '../../shared/conf/image-formats.ts';
import {
  accept,
  checkAccess,
  choose,
  PASSWORD,
  PICTURES,
  picture,
  signIn,
  TestBrowser,
} from '../support/browser.ts';
import { TestController, until } from '../support/controller.ts';
import { startHost, type TestHost } from '../support/hosts.ts';
import { isRoot, scratch } from '../support/scratch.ts';

const MIB = 1 << 20;
const MANY = 100_000;

/** The page in a real browser, against a real controller with hosts that it reaches by SSH. */
describe('the page', () => {
  const room = scratch();
  let controller: TestController;
  let browser: TestBrowser;
  let first: TestHost;
  let second: TestHost;
  let page: Page;

  before(async () => {
    controller = await TestController.start(join(room.path, 'controller'), []);
    browser = await TestBrowser.start();
    first = await startHost(join(room.path, 'first'));
    second = await startHost(join(room.path, 'second'));
    for (const host of [first, second]) {
      await controller.addHost(host);
      await controller.addPool(host);
    }
    for (const name of ['vm-101-disk-0.qcow2', 'vm-102-disk-0.qcow2'])
      await controller.cliOk(
        'vol',
        'create',
        `${first.name}/p/${name}`,
        '--format',
        'qcow2',
        '--capacity',
        '64M',
      );
    page = await browser.open();
  });
  after(async () => {
    await browser?.[Symbol.asyncDispose]();
    await controller?.[Symbol.asyncDispose]();
    await first?.[Symbol.asyncDispose]();
    await second?.[Symbol.asyncDispose]();
    await room[Symbol.asyncDispose]();
  });

  const go = async (section: string): Promise<void> => {
    await page.getByRole('navigation').getByRole('link', { name: section }).click();
    await page.getByRole('heading', { level: 1, name: section }).waitFor();
  };
  const dialog = () => page.getByRole('dialog');
  const submit = async (name: string): Promise<void> => {
    await dialog().getByRole('button', { name, exact: true }).click();
    await dialog().waitFor({ state: 'hidden' });
  };
  /** Of a job in a state. */
  const jobIn = (state: string) =>
    page.getByRole('row').filter({ hasText: 'migrate' }).filter({ hasText: state }).first();

  test('the first administrator comes by the link that npm start prints, which works once', async () => {
    const { link } = controller;
    await page.goto(link);
    await page.getByText('You are the first').waitFor();
    assert.equal(new URL(page.url()).hash, '', 'the token leaves the address');
    await checkAccess(page, 'welcome');
    await picture(page, 'welcome');
    await page.reload();
    await page.getByText('this link was used, was withdrawn, or has expired').waitFor();
    // It is opened in the tab that shows this.
    await accept(page, link, 'ada');
    const other = await browser.open();
    for (const _ of ['once', 'and again in the same tab']) {
      await other.goto(link);
      await other.getByText('this link was used, was withdrawn, or has expired').waitFor();
      await other.waitForURL(({ hash }) => hash === '');
    }
    await other.goto(controller.url);
    await other.getByRole('heading', { name: 'Sign in' }).waitFor();
    await checkAccess(other, 'sign-in');
    await other.getByLabel('Name').fill('ada');
    await other.getByLabel('Password').fill('something else entirely');
    await other.getByRole('button', { name: 'Sign in' }).click();
    await other.getByText('the name, the password or the code is wrong').waitFor();
    await other.context().close();
    const cookies = await page.context().cookies();
    const session = cookies.find(({ name }) => name === '__Host-stowage')!;
    assert.deepEqual(
      [session.httpOnly, session.secure, session.sameSite, session.path],
      [true, true, 'Strict', '/'],
    );
  });

  test('every page can be used by everybody, in both schemes and widths', async () => {
    const volume = `/volumes/${first.name}/p/vm-101-disk-0.qcow2`;
    const paths = {
      overview: '/',
      volumes: '/volumes',
      volume,
      pools: '/pools',
      pool: `/pools/${first.name}/p`,
      hosts: '/hosts',
      host: `/hosts/${first.name}`,
      jobs: '/jobs',
      audit: '/audit',
      secrets: '/secrets',
      tokens: '/tokens',
      people: '/people',
      account: '/account',
    };
    for (const [colorScheme, width] of [
      ['light', 1280],
      ['dark', 1280],
      ['light', 420],
      ['dark', 420],
    ] as const) {
      await page.emulateMedia({ colorScheme });
      await page.setViewportSize({ width, height: 800 });
      for (const [name, path] of Object.entries(paths)) {
        // A look takes seconds: every page in the light, those with all the parts there are in the dark and narrow, too.
        const isLooked =
          (colorScheme === 'light' && width > 1000) ||
          (colorScheme === 'dark' &&
            width < 1000 &&
            ['overview', 'volumes', 'volume', 'jobs'].includes(name));
        if (!isLooked && !PICTURES) continue;
        await page.goto(`${controller.url}${path}`);
        await page.getByRole('heading', { level: 1 }).waitFor();
        await page.waitForLoadState('load');
        await page.waitForTimeout(300);
        if (isLooked) await checkAccess(page, `${name}, ${colorScheme}, ${width}`);
        await picture(page, `${name}-${colorScheme}-${width}`);
      }
    }
    await page.emulateMedia({ colorScheme: 'light' });
    await page.setViewportSize({ width: 1280, height: 800 });
  });

  test('a volume is made, grown, snapshotted, cloned, renamed, kept from harm, and deleted', async () => {
    await page.goto(controller.url);
    await go('Volumes');
    await page.getByRole('button', { name: 'New volume …' }).click();
    await checkAccess(page, 'dialog of a new volume');
    await choose(page, 'Pool', new RegExp(`^${first.name}/p`));
    await dialog().getByLabel('Name').fill('made.qcow2');
    await dialog().getByLabel('Capacity').fill('nonsense');
    await dialog().getByText('such as 10G').waitFor();
    assert.ok(await dialog().getByRole('button', { name: 'Create' }).isDisabled());
    await dialog().getByLabel('Capacity').fill('32M');
    await submit('Create');
    await page.getByRole('heading', { level: 1, name: 'made.qcow2' }).waitFor();
    await page.getByText('32.0 MiB').waitFor();

    await page.getByRole('button', { name: 'Resize …' }).click();
    await checkAccess(page, 'dialog of a resize');
    await dialog().getByLabel('Capacity').fill('48M');
    await submit('Resize');
    await page.getByText('48.0 MiB', { exact: true }).waitFor();

    await page.getByRole('button', { name: 'Take a snapshot …' }).click();
    await dialog().getByLabel('Name').fill('before');
    await submit('Take the snapshot');
    await page
      .getByRole('listitem')
      .filter({ hasText: 'before' })
      .getByRole('button', { name: 'Go back …' })
      .click();
    await checkAccess(page, 'dialog of going back');
    assert.ok(
      await dialog().getByRole('button', { name: 'Go back' }).isDisabled(),
      'not before the name is typed',
    );
    await dialog().getByLabel('Type the name').fill('made.qcow2');
    await submit('Go back');

    await page.getByRole('button', { name: 'Clone …' }).click();
    await dialog().getByLabel('Name of the clone').fill('copy.qcow2');
    await submit('Clone');
    await until('the clone', async () =>
      (await controller.cliOk('vol', 'list', `${first.name}/p`)).includes('copy.qcow2'),
    );

    await page.getByRole('button', { name: 'Rename …' }).click();
    await dialog().getByLabel('Name').fill('renamed.qcow2');
    await submit('Rename');
    await page.getByRole('heading', { level: 1, name: 'renamed.qcow2' }).waitFor();

    await page.getByRole('button', { name: 'Notes …' }).click();
    await dialog().getByLabel('Notes').fill('<img src=x onerror=alert(1)> of ada');
    await dialog().getByText('Protected:').click();
    await submit('Save');
    await page.getByText('<img src=x onerror=alert(1)> of ada').waitFor();

    await page.getByRole('button', { name: 'Delete …', exact: true }).first().click();
    await dialog().getByRole('button', { name: 'Move to the trash' }).click();
    await dialog().getByText('[volume-protected]').waitFor();
    await checkAccess(page, 'dialog with an error');
    await dialog().getByRole('button', { name: 'Cancel' }).click();
    await page.getByRole('button', { name: 'Notes …' }).click();
    await dialog().getByText('Protected:').click();
    await submit('Save');
    await page.getByRole('button', { name: 'Delete …', exact: true }).first().click();
    await submit('Move to the trash');

    await page.getByRole('tab', { name: 'Trash (1)' }).click();
    await page.getByText('by ada').waitFor();
    await checkAccess(page, 'trash');
    await page.getByRole('button', { name: 'Restore' }).click();
    await page.getByText('renamed.qcow2 is back').waitFor();
    await controller.cliOk('vol', 'create', `${first.name}/p/rubbish`, '--capacity', '1M');
    await controller.cliOk('vol', 'delete', `${first.name}/p/rubbish`, '--trash', '--yes');
    await page.getByRole('tab', { name: 'Trash (1)' }).click();
    await page.getByRole('button', { name: 'Delete rubbish for ever' }).click();
    await submit('Delete for ever');
    await page.getByText('The trash is empty.').waitFor();
    await page.getByRole('tab', { name: 'Volumes' }).click();
    await page.getByRole('link', { name: 'renamed.qcow2' }).click();
    await page.getByRole('button', { name: 'Delete …', exact: true }).first().click();
    await choose(page, 'How', 'for ever');
    await dialog().getByText('With snapshots').click();
    await dialog().getByLabel('Type the name').fill('renamed.qcow2');
    await submit('Delete for ever');
    await controller.cliRefused('volume-not-found', 'vol', 'show', `${first.name}/p/renamed.qcow2`);
  });

  test('a volume moves to another host; its job is live, and can be paused and cancelled', async () => {
    const path = join(first.directory, 'pool/big.raw');
    writeFileSync(path, randomBytes(64 * MIB));
    await controller.cliOk('pool', 'refresh', `${first.name}/p`);
    await page.goto(`${controller.url}/volumes/${first.name}/p/big.raw`);
    await page.getByRole('button', { name: 'Move or copy …' }).click();
    await choose(page, 'To the pool', new RegExp(`^${second.name}/p`));
    await dialog().getByLabel('Speed limit per second').fill('4M');
    await dialog().getByText('of data go from host to host').waitFor();
    await checkAccess(page, 'dialog of a move');
    await picture(page, 'migrate');
    await submit('Move');
    await go('Jobs');
    const job = jobIn('running');
    await job.getByText('MiB/s').waitFor();
    await picture(page, 'jobs-running');
    await checkAccess(page, 'running jobs');
    await job.getByRole('button', { name: /^pause/ }).click();
    await jobIn('paused')
      .getByRole('button', { name: /^resume/ })
      .click();
    await jobIn('running')
      .getByRole('button', { name: /^cancel/ })
      .click();
    await jobIn('cancelled').waitFor();
    await jobIn('cancelled').getByRole('link').click();
    await page.getByText('over the network').waitFor();
    await page.getByText('cancelled', { exact: true }).first().waitFor();
    await checkAccess(page, 'a job');

    await page.goto(`${controller.url}/volumes/${first.name}/p/big.raw`);
    await page.getByRole('button', { name: 'Move or copy …' }).click();
    await choose(page, 'To the pool', new RegExp(`^${second.name}/p`));
    // The target's free space changes while somebody looks at the plan: no list opens over it.
    const left = dialog().getByText('of data go from host to host');
    const before = await left.innerText();
    const filler = join(second.directory, 'filler');
    const { bavail, bsize } = statfsSync(second.directory);
    try {
      execFileSync('fallocate', ['-l', String(Math.ceil((bavail * bsize) / 20)), filler]);
      await controller.cliOk('pool', 'refresh', `${second.name}/p`);
      await until('the dialog tells the new space', async () => (await left.innerText()) !== before);
      assert.equal(await page.getByRole('listbox').count(), 0);
    } finally {
      rmSync(filler, { force: true });
    }
    await submit('Move');
    await until('it is there', async () =>
      (await controller.cliOk('vol', 'list', `${second.name}/p`)).includes('big.raw'),
    );
    await controller.cliRefused('volume-not-found', 'vol', 'show', `${first.name}/p/big.raw`);
  });

  test('a file is looked at before it is sent: its format is known, or refused with what to do', async () => {
    const vdi = join(room.path, 'disk.vdi');
    writeFileSync(
      vdi,
      Buffer.concat([Buffer.alloc(64), Buffer.from('\x7f\x10\xda\xbe', 'latin1'), Buffer.alloc(4096)]),
    );
    const qcow2 = join(room.path, 'disk.qcow2');
    writeFileSync(qcow2, Buffer.concat([Buffer.from('QFI\xfb', 'latin1'), Buffer.alloc(4096)]));
    await page.goto(`${controller.url}/pools/${second.name}/p`);
    await page.getByRole('button', { name: 'Upload …' }).click();
    await dialog().locator('input[type=file]').setInputFiles(vdi);
    await dialog().getByText('This is a vdi image, which no volume can be').waitFor();
    assert.ok(await dialog().getByRole('button', { name: 'Upload', exact: true }).isDisabled());
    await dialog().locator('input[type=file]').setInputFiles(qcow2);
    await dialog()
      .getByRole('button', { name: /qcow2 Format of the file|Format of the file/ })
      .filter({ hasText: 'qcow2' })
      .waitFor();
    await dialog().getByRole('button', { name: 'Cancel' }).click();
    await dialog().waitFor({ state: 'hidden' });
  });

  test('the filter by format knows those that volumes have, and each finds what it should', async () => {
    await page.goto(`${controller.url}/volumes?format=qcow2`);
    await page.getByRole('link', { name: 'vm-101-disk-0.qcow2' }).waitFor();
    await page.getByRole('button', { name: /Format/ }).click();
    const options = await page.getByRole('option').allInnerTexts();
    assert.deepEqual(options, ['every format', ...VOLUME_FORMATS]);
    await page.getByRole('option', { name: 'ploop' }).click();
    await page.getByText('No volumes, or none that match.').waitFor();
    assert.equal(await page.getByRole('alert').count(), 0);
  });

  test('an upload goes on after the tab was closed in the middle of it', async () => {
    const bytes = randomBytes(160 * MIB);
    const file = join(room.path, 'image.raw');
    writeFileSync(file, bytes);
    const choose = async (target: Page, path: string): Promise<void> => {
      await target.goto(`${controller.url}/pools/${second.name}/p`);
      await target.getByRole('button', { name: 'Upload …' }).click();
      await target.getByRole('dialog').locator('input[type=file]').setInputFiles(path);
    };
    const send = (target: Page): Promise<void> =>
      target.getByRole('dialog').getByRole('button', { name: 'Upload', exact: true }).click();
    const begin = async (target: Page, path = file): Promise<void> => {
      await choose(target, path);
      await send(target);
    };
    const tab = await page.context().newPage();
    const network = await page.context().newCDPSession(tab);
    await choose(tab, file);
    // Before it begins: it would be over before the network is slow.
    await network.send('Network.enable');
    await network.send('Network.emulateNetworkConditions', {
      ...{ offline: false, latency: 0, downloadThroughput: -1 },
      uploadThroughput: 24 * MIB,
    });
    await send(tab);
    const status = () =>
      controller
        .api<{ status: { contiguousBytes: number } }>(
          `/hosts/${second.name}/pools/p/volumes/image.raw/upload`,
        )
        .catch(() => undefined);
    const before = await until('some of it is there', async () => {
      const found = await status();
      return found && found.status.contiguousBytes > 8 * MIB && found.status.contiguousBytes;
    });
    await tab.close({ runBeforeUnload: false });
    const kept = await status();
    assert.ok(kept && kept.status.contiguousBytes >= before, 'what was sent stays');
    // Another file of this size and name goes on with nothing that is there.
    const bytesOfAnother = join(room.path, 'other/image.raw');
    mkdirSync(join(room.path, 'other'));
    writeFileSync(bytesOfAnother, randomBytes(160 * MIB));
    await begin(page, bytesOfAnother);
    await page.getByText('is uploading another file').first().waitFor();
    await page.reload();
    await begin(page);
    await page.getByText('is uploaded').waitFor({ timeout: 60_000 });
    const there = readFileSync(join(second.directory, 'pool/image.raw'));
    assert.equal(
      createHash('sha256').update(there).digest('hex'),
      createHash('sha256').update(bytes).digest('hex'),
    );
    const trail = await controller.cliOk('audit', 'list', '--limit', '200');
    assert.match(trail, /volume\.upload-bytes.*from byte \d+/, 'it went on, and did not begin again');
  });

  test('a host whose agent is killed and that goes away shows itself, and so does its return', {
    skip: !isRoot && 'cutting a host off needs network namespaces',
  }, async () => {
    await page.goto(controller.url);
    await page.getByText('Nothing. All hosts answer').waitFor();
    first.killAgent();
    first.cut();
    await page.getByRole('link', { name: `host ${first.name}` }).waitFor({ timeout: 60_000 });
    await picture(page, 'overview-attention');
    await checkAccess(page, 'overview with what needs attention');
    first.heal();
    await page.getByText('Nothing. All hosts answer').waitFor({ timeout: 90_000 });
  });

  test('a controller that restarts is told of, and found again, without a reload', async () => {
    await go('Volumes');
    await page.evaluate('window.notReloaded = true');
    await controller.kill();
    await page.getByText('no live changes').waitFor();
    await controller.restart();
    await page.getByText('no live changes').waitFor({ state: 'hidden', timeout: 60_000 });
    await until('the host is back', async () =>
      (await controller.cliOk('host', 'show', first.name)).includes('reachable since'),
    );
    await controller.cliOk('vol', 'create', `${first.name}/p/fresh`, '--capacity', '1M');
    await page.getByRole('link', { name: 'fresh', exact: true }).waitFor();
    assert.equal(await page.evaluate('window.notReloaded'), true);
  });

  test('of two operators each sees what the other does', async () => {
    const invited = await controller.cliOk('user', 'invite', 'bob', '--role', 'operator');
    const bobs = await browser.open();
    await accept(bobs, invited.trim());
    await bobs.getByRole('navigation').getByRole('link', { name: 'Volumes' }).click();
    await bobs.getByRole('row', { name: /fresh/ }).getByRole('checkbox').click();
    await bobs.getByRole('button', { name: 'Delete …' }).click();
    await bobs.getByRole('dialog').getByRole('button', { name: 'Move to the trash' }).click();
    await page.getByRole('link', { name: 'fresh', exact: true }).waitFor({ state: 'hidden' });
    await page.goto(`${controller.url}/volumes/${first.name}/p/fresh`);
    await page.getByText("has no volume 'fresh'").waitFor();
    assert.equal(await bobs.getByRole('link', { name: 'People' }).count(), 0, 'an operator invites nobody');
    // What the administrator takes from bob ends while he looks.
    await controller.cliOk('user', 'remove', 'bob');
    await bobs.getByRole('heading', { name: 'Sign in' }).waitFor({ timeout: 30_000 });
    await bobs.context().close();
  });

  test('a viewer is offered nothing that would fail', async () => {
    const invited = await controller.cliOk(
      'user',
      'invite',
      'vera',
      '--role',
      'viewer',
      '--scope',
      `${first.name}/p`,
    );
    const veras = await browser.open();
    await accept(veras, invited.trim());
    /** Settles when a page that is opened next knows what its reader may do. */
    const rightsOf = (tab: Page) =>
      Promise.all(
        ['actions', 'fleet'].map((name) =>
          tab.waitForResponse((each) => each.url().endsWith(`/api/v1/${name}`)),
        ),
      );
    const failures: string[] = [];
    veras.on('response', (response) => {
      if (response.status() >= 400) failures.push(`${response.status()} ${response.url()}`);
    });
    for (const path of [
      '/',
      '/volumes',
      `/volumes/${first.name}/p/vm-101-disk-0.qcow2`,
      '/pools',
      `/pools/${first.name}/p`,
      '/jobs',
    ]) {
      const known = rightsOf(veras);
      await veras.goto(`${controller.url}${path}`);
      await veras.getByRole('heading', { level: 1 }).waitFor();
      await known;
      await veras.waitForTimeout(300);
      const buttons = await veras.getByRole('main').getByRole('button').allInnerTexts();
      const offered = buttons.filter(
        (text) => text.includes('…') || /^(Start|Stop|Refresh|Restore)$/.test(text),
      );
      assert.deepEqual(offered, [], path);
    }
    // An administrator is offered what is looked for here.
    await page.goto(`${controller.url}/volumes`);
    await page.getByRole('main').getByRole('button', { name: 'New volume …' }).waitFor();
    // Neither the palette nor an address opens what is not offered.
    await veras.keyboard.press('Control+k');
    await veras.getByRole('dialog').waitFor();
    const options = await veras.getByRole('menuitem').allInnerTexts();
    assert.deepEqual(
      options.filter((text) => text.includes('action')),
      [],
    );
    const volume = `/volumes/${first.name}/p/vm-101-disk-0.qcow2`;
    for (const path of [
      '/volumes#create',
      '/volumes#upload',
      '/pools#create',
      '/hosts#add',
      `${volume}#delete`,
    ]) {
      // From elsewhere: of an address that differs behind the # only nothing is loaded.
      await veras.goto('about:blank');
      const known = rightsOf(veras);
      await veras.goto(`${controller.url}${path}`);
      await veras.getByRole('heading', { level: 1 }).waitFor();
      await known;
      await veras.waitForTimeout(300);
      assert.equal(await veras.getByRole('dialog').count(), 0, path);
    }
    assert.deepEqual(failures, []);
    await veras.context().close();
  });

  test('everything is reached by the keyboard alone', async () => {
    await page.goto(controller.url);
    await page.getByRole('navigation').waitFor();
    await page.keyboard.press('Control+k');
    await dialog().waitFor();
    await checkAccess(page, 'palette');
    await page.keyboard.type('vm-101');
    await page.getByRole('menuitem', { name: /vm-101-disk-0/ }).waitFor();
    await picture(page, 'palette');
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { level: 1, name: 'vm-101-disk-0.qcow2' }).waitFor();
  });

  test(`${MANY} rows are gone through from end to end by the keyboard`, async () => {
    const directory = join(room.path, 'many');
    mkdirSync(directory);
    for (let index = 0; index < MANY; index++)
      writeFileSync(join(directory, `v${String(index).padStart(6, '0')}`), '');
    await controller.cliOk('pool', 'create', 'local/many', '--type', 'dir', '--target', directory);
    await until(
      'all are known',
      async () =>
        (await controller.api<{ count: number }>('/volume-rows?pool=many&host=local&count=true&limit=1'))
          .count === MANY,
      120_000,
    );
    await page.goto(`${controller.url}/pools/local/many`);
    const grid = page.getByRole('grid', { name: 'Volumes' });
    await page.getByRole('link', { name: 'v000000' }).waitFor();
    assert.equal(await grid.getAttribute('aria-rowcount'), String(MANY + 1));
    await grid.focus();
    await page.keyboard.press('End');
    await page.getByRole('link', { name: `v0${MANY - 1}` }).waitFor();
    await checkAccess(page, 'the end of a long table');
    await page.keyboard.press('Home');
    await page.getByRole('link', { name: 'v000000' }).waitFor();
    for (let press = 0; press < 200; press++) await page.keyboard.press('PageDown');
    const active = Number((await grid.getAttribute('aria-activedescendant'))!.slice('row-'.length));
    const name = `v${String(active).padStart(6, '0')}`;
    await page.getByRole('link', { name }).waitFor();
    assert.ok((await page.getByRole('row').count()) < 100, 'only what is seen is in the document');
    await page.keyboard.press('Space');
    await page.getByText('1 selected').waitFor();
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { level: 1, name }).waitFor();
    await page.goBack();
    await page.getByLabel('Search in names').fill('v099');
    await page.getByLabel('Search in names').press('Enter');
    await page.getByText('1,000 volumes').waitFor();
    await page.getByRole('button', { name: 'Name' }).click();
    await page.getByRole('button', { name: 'Name' }).click();
    await page.getByRole('link', { name: 'v099999' }).waitFor();
  });

  test('somebody with a part of the fleet finds every section, and works in it', async () => {
    const scope = `${second.name}/p`;
    const invited = await controller.cliOk('user', 'invite', 'olga', '--role', 'operator', '--scope', scope);
    const olgas = await browser.open();
    await accept(olgas, invited.trim());
    const sections = await olgas.getByRole('navigation').getByRole('link').allInnerTexts();
    assert.deepEqual(sections, ['Overview', 'Volumes', 'Pools', 'Hosts', 'Jobs', 'Audit']);
    await olgas.getByRole('navigation').getByRole('link', { name: 'Volumes' }).click();
    await olgas.getByRole('button', { name: 'New volume …' }).click();
    await olgas.getByRole('dialog').getByLabel('Name').fill('of-olga.qcow2');
    await olgas.getByRole('dialog').getByRole('button', { name: 'Create' }).click();
    await olgas.getByRole('heading', { level: 1, name: 'of-olga.qcow2' }).waitFor();
    await olgas.context().close();
  });

  test('many tabs are live, by one connection', async () => {
    const tabs: Page[] = [];
    for (let index = 0; index < 8; index++) {
      const tab = await page.context().newPage();
      await tab.goto(`${controller.url}/volumes?search=for-all-tabs`);
      await tab.getByRole('grid').waitFor();
      tabs.push(tab);
    }
    await controller.cliOk('vol', 'create', `${second.name}/p/for-all-tabs`, '--capacity', '1M');
    for (const tab of tabs) await tab.getByRole('link', { name: 'for-all-tabs' }).waitFor();
    // Also when the one that reads is closed.
    for (const tab of tabs.splice(0, 4)) await tab.close();
    await controller.cliOk('vol', 'rename', `${second.name}/p/for-all-tabs`, 'for-all-tabs-2', '-q');
    for (const tab of tabs) await tab.getByRole('link', { name: 'for-all-tabs-2' }).waitFor();
    for (const tab of tabs) await tab.close();
  });

  test('many are deleted until somebody stops, or one cannot be; the rest is done when that is mended', async () => {
    for (const name of ['del-1', 'del-2', 'del-3'])
      await controller.cliOk('vol', 'create', `${second.name}/p/${name}`, '--capacity', '1M');
    await controller.cliOk('vol', 'set', `${second.name}/p/del-2`, '--protected', 'on');
    await page.goto(`${controller.url}/volumes?search=del-`);
    for (const name of ['del-1', 'del-2', 'del-3'])
      await page.getByRole('row', { name }).getByRole('checkbox').click();
    await page.getByRole('button', { name: 'Delete …' }).click();
    await dialog().getByRole('button', { name: 'Move to the trash' }).click();
    await dialog().getByText('[volume-protected]').waitFor();
    await controller.cliOk('vol', 'set', `${second.name}/p/del-2`, '--protected', 'off');
    await submit('Move to the trash');
    await page.getByText('No volumes, or none that match.').waitFor();
    assert.match(await controller.cliOk('trash', 'list', `${second.name}/p`), /del-1.*del-2.*del-3/s);
  });

  test('columns are made wider and narrower by keys, by pulling and by pressing, and stay so', async () => {
    await page.goto(`${controller.url}/volumes`);
    const heading = page.getByRole('columnheader', { name: 'Capacity', exact: true });
    const width = async () => Math.round((await heading.boundingBox())!.width);
    const before = await width();
    await heading.getByRole('separator', { name: 'Width of Capacity' }).focus();
    for (const key of ['ArrowRight', 'ArrowRight', 'ArrowLeft']) await page.keyboard.press(key);
    await until('it is wider', async () => (await width()) === before + 20);
    const edge = (await heading.getByRole('separator').boundingBox())!;
    await page.mouse.move(edge.x + 2, edge.y + 10);
    await page.mouse.down();
    await page.mouse.move(edge.x + 52, edge.y + 10, { steps: 5 });
    await page.mouse.up();
    await until('it was pulled', async () => (await width()) === before + 70);
    await page.getByText('Columns', { exact: true }).click();
    await page.getByRole('button', { name: 'Capacity wider' }).click();
    await until('it is wider still', async () => (await width()) === before + 110);
    await page.getByRole('button', { name: 'Capacity narrower' }).click();
    await page.getByRole('checkbox', { name: 'Snapshots' }).click({ force: true });
    await checkAccess(page, 'the menu of columns');
    await page.reload();
    await heading.waitFor();
    assert.equal(await width(), before + 70);
    assert.equal(await page.getByRole('columnheader', { name: 'Snapshots' }).count(), 0);
  });

  test('columns are sorted by the keyboard', async () => {
    await page.goto(`${controller.url}/volumes`);
    await page.getByRole('grid').waitFor();
    await page.getByRole('button', { name: 'Capacity' }).focus();
    await page.keyboard.press('Enter');
    await page.locator('[role=columnheader][aria-sort=descending]').filter({ hasText: 'Capacity' }).waitFor();
  });

  test('somebody adds a passkey and recovery codes, and signs in by them', async () => {
    // Passkeys are for a name, and not for an address.
    const url = controller.url.replace('127.0.0.1', 'localhost');
    const link = (await controller.cliOk('user', 'invite', 'pia', '--role', 'viewer')).match(
      /\S+\/welcome#\S+/,
    )![0];
    const tab = await browser.open();
    await accept(tab, link.replace('127.0.0.1', 'localhost'));
    const devices = await tab.context().newCDPSession(tab);
    await devices.send('WebAuthn.enable');
    const { authenticatorId } = await devices.send('WebAuthn.addVirtualAuthenticator', {
      options: {
        ...{ protocol: 'ctap2', transport: 'internal', hasResidentKey: true, hasUserVerification: true },
        ...{ isUserVerified: true, automaticPresenceSimulation: true },
      },
    });
    await tab.goto(`${url}/account`);
    const open = async (section: string, button: string): Promise<void> => {
      await tab
        .locator('section')
        .filter({ has: tab.getByRole('heading', { name: section }) })
        .getByRole('button', { name: button })
        .click();
      await tab.getByRole('dialog').waitFor();
      await checkAccess(tab, `${section}, ${button}`);
    };
    const sure = async (verb: string): Promise<void> => {
      await tab.getByRole('dialog').getByLabel('Your password').fill(PASSWORD);
      await tab.getByRole('dialog').getByRole('button', { name: verb }).click();
    };
    await open('Passkeys', 'Add …');
    await tab.getByLabel('What you call it').fill('the test');
    await sure('Go on');
    // The first second factor comes with them: who loses it is not shut out.
    await tab.getByRole('heading', { name: 'Your recovery codes' }).waitFor();
    await tab.getByRole('dialog').getByRole('button', { name: 'Close' }).click();
    await tab.getByText('the test').waitFor();
    await open('Codes', 'Turn on …');
    await tab.getByRole('img', { name: /camera/ }).waitFor();
    await picture(tab, 'codes');
    await tab.keyboard.press('Escape');
    await open('Codes', 'Make new ones …');
    await sure('Make codes');
    await tab.getByRole('heading', { name: 'Your recovery codes' }).waitFor();
    await checkAccess(tab, 'recovery codes');
    const codes = (await tab.getByRole('dialog').locator('pre').textContent())!.split('\n');
    assert.equal(codes.length, 10);
    // They are not shown again: nothing but the button closes it.
    await tab.keyboard.press('Escape');
    await tab.mouse.click(5, 5);
    await tab.getByRole('dialog').getByRole('button', { name: 'Close' }).click();
    await picture(tab, 'account-passkeys');
    await tab.getByRole('button', { name: 'Sign out' }).click();

    const passkey = tab.getByRole('button', { name: 'Sign in with a passkey' });
    await passkey.waitFor();
    await picture(tab, 'sign-in-passkey');
    await devices.send('WebAuthn.setUserVerified', { authenticatorId, isUserVerified: false });
    await passkey.click();
    await tab.getByText('No passkey was used').waitFor();
    await devices.send('WebAuthn.setUserVerified', { authenticatorId, isUserVerified: true });
    await passkey.click();
    await tab.getByRole('navigation').waitFor();
    await tab.getByRole('button', { name: 'Sign out' }).click();

    await tab.getByLabel('Name').fill('pia');
    await tab.getByLabel('Password').fill(PASSWORD);
    await tab.getByRole('button', { name: 'Sign in', exact: true }).click();
    await tab.getByLabel('recovery code').fill(codes[3]!);
    await tab.getByRole('button', { name: 'Go on' }).click();
    await tab.getByRole('navigation').waitFor();
    await tab.goto(`${url}/account`);
    await tab.getByText('9 recovery codes are left').waitFor();
    await tab.context().close();
  });

  test('somebody who signs out is out, in every tab', async () => {
    const tab = await page.context().newPage();
    await tab.goto(`${controller.url}/volumes`);
    await tab.getByRole('grid').waitFor();
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByRole('heading', { name: 'Sign in' }).waitFor();
    await tab.getByRole('heading', { name: 'Sign in' }).waitFor({ timeout: 30_000 });
    await signIn(page, controller.url, 'ada');
    await tab.close();
  });

  test('the browser had nothing to complain about: no error, nothing that its policy forbids', () => {
    assert.deepEqual(browser.complaints, []);
  });
});
