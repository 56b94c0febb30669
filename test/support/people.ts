import assert from 'node:assert/strict';
import type { Invitation } from '../../shared/protocol/api.ts';
import type { Role } from '../../shared/protocol/rights.ts';
import type { TestController } from './controller.ts';

export const PASSWORD = 'correct horse battery staple';

/** What browsers send with what their page asks for. */
export const SAME_ORIGIN = { 'sec-fetch-site': 'same-origin' };
export const JSON_BODY = { ...SAME_ORIGIN, 'content-type': 'application/json' };

/** `name=value` of the session that an answer sets. */
export function cookieOf(response: Response): string {
  const [cookie] = response.headers.getSetCookie();
  assert.ok(cookie, `no session: ${response.status}`);
  return cookie.split(';')[0]!;
}

/** Makes a user, who signs in. Gives the cookie of the session. */
export async function signedIn(
  controller: TestController,
  name: string,
  role: Role,
  scopes: string[] = [],
): Promise<string> {
  const { token } = await controller.api<Invitation>('/users', { name, role, scopes });
  const response = await fetch(`${controller.url}/api/v1/invitation/accept`, {
    method: 'POST',
    headers: JSON_BODY,
    body: JSON.stringify({ token, password: PASSWORD }),
  });
  return cookieOf(response);
}
