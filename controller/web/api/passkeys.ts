import { call } from './client.ts';

interface Asked {
  options: unknown;
  state: string;
}

/** Whether this browser has passkeys, and is at a place for which there can be some. */
export const knowsPasskeys = (): boolean =>
  typeof PublicKeyCredential !== 'undefined' &&
  'parseCreationOptionsFromJSON' in PublicKeyCredential &&
  !/^[\d.]+$|:/.test(location.hostname);

/** What a credential answers; throws a sentence where its user, or the browser, did not want to. */
async function answerOf(asked: Promise<Credential | null>): Promise<unknown> {
  try {
    return ((await asked) as PublicKeyCredential).toJSON();
  } catch (error) {
    const { name } = error as DOMException;
    if (name === 'SecurityError')
      throw new Error('Passkeys are for another address of this controller: open the page under that one.');
    if (name === 'InvalidStateError') throw new Error('This device has a passkey for you already.');
    throw new Error('No passkey was used: it was cancelled, took too long, or there is none here.');
  }
}

export async function signInByPasskey(): Promise<void> {
  const { options, state } = await call<Asked>('/session/passkey/ask', { method: 'POST', json: {} });
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(
    options as PublicKeyCredentialRequestOptionsJSON,
  );
  const response = await answerOf(navigator.credentials.get({ publicKey }));
  await call('/session/passkey', { method: 'POST', json: { state, response } });
}

export async function addPasskey(name: string, password: string): Promise<void> {
  const { options, state } = await call<Asked>('/account/passkeys/ask', { method: 'POST', json: {} });
  const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(
    options as PublicKeyCredentialCreationOptionsJSON,
  );
  const response = await answerOf(navigator.credentials.create({ publicKey }));
  await call('/account/passkeys', { method: 'POST', json: { name, password, state, response } });
}
