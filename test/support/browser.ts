import assert from 'node:assert/strict';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { AxeBuilder } from '@axe-core/playwright';
import { type Browser, chromium, type Page } from 'playwright-core';

export const PASSWORD = 'correct horse battery staple';
/** Where pictures of the pages are put, if anywhere. */
export const PICTURES = process.env.STOWAGE_PICTURES;

/** A browser, by Debian's Chromium, in which people sign in; what pages complain about is kept. */
export class TestBrowser implements AsyncDisposable {
  readonly browser: Browser;
  readonly complaints: string[] = [];
  /** Expected, such as a connection that a test cuts. */
  ignored = /ERR_(CONNECTION|INCOMPLETE|EMPTY|ABORTED|SOCKET|NETWORK)|the server responded with a status of/;

  private constructor(browser: Browser) {
    this.browser = browser;
  }

  static async start(): Promise<TestBrowser> {
    // Its sandbox needs user namespaces, which tests as root do not have everywhere.
    const args = process.getuid?.() === 0 ? ['--no-sandbox'] : [];
    // There is none, and emulating one costs a sixth of the processor's time.
    args.push('--disable-gpu', '--disable-software-rasterizer');
    assert.ok(existsSync('/usr/bin/chromium'), 'Debian’s chromium is installed');
    return new TestBrowser(await chromium.launch({ executablePath: '/usr/bin/chromium', args }));
  }

  /** A new window of somebody who is signed in nowhere. */
  async open(options: Parameters<Browser['newContext']>[0] = {}): Promise<Page> {
    const context = await this.browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
    const page = await context.newPage();
    page.on('console', (message) => {
      if (message.type() === 'error' && !this.ignored.test(message.text()))
        this.complaints.push(message.text());
    });
    page.on('pageerror', ({ message }) => this.complaints.push(message));
    return page;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.browser.close();
  }
}

/** Follows an invitation, as `name` where it is to be chosen. */
export async function accept(page: Page, link: string, name?: string): Promise<void> {
  await page.goto(link);
  if (name !== undefined) await page.getByLabel('Name').fill(name);
  await page.getByLabel('Password', { exact: true }).fill(PASSWORD);
  await page.getByLabel('Password again').fill(PASSWORD);
  await page.getByRole('button', { name: 'Begin' }).click();
  await page.getByRole('heading', { name: 'Overview' }).waitFor();
}

export async function signIn(page: Page, url: string, name: string): Promise<void> {
  await page.goto(url);
  await page.getByLabel('Name').fill(name);
  await page.getByLabel('Password').fill(PASSWORD);
  await page.getByRole('button', { name: 'Sign in', exact: true }).click();
  await page.getByRole('navigation').waitFor();
}

/** Fails for anything that keeps somebody from using what the page shows now (WCAG 2.2 AA). */
export async function checkAccess(page: Page, what: string): Promise<void> {
  const { violations } = await new AxeBuilder({ page })
    // There are no frames, for which it would open a page of its own; what is well needs no description.
    .setLegacyMode()
    .options({ resultTypes: ['violations'] })
    .withTags(['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'])
    .analyze();
  const found = violations.map(
    ({ id, help, nodes }) =>
      `${id}: ${help}\n    ${nodes.map(({ html }) => html.slice(0, 200)).join('\n    ')}`,
  );
  assert.deepEqual(found, [], what);
}

export async function picture(page: Page, name: string): Promise<void> {
  if (!PICTURES) return;
  mkdirSync(PICTURES, { recursive: true });
  await page.screenshot({ path: join(PICTURES, `${name}.png`) });
}

/** Chooses one of the options of a field. */
export async function choose(page: Page, field: string, option: string | RegExp): Promise<void> {
  await page
    .getByRole('dialog')
    .getByRole('button', { name: new RegExp(field) })
    .click();
  await page.getByRole('option', { name: option }).click();
}
