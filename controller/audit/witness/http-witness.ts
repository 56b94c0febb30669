import { clock } from '../../../shared/util/clock.ts';
import { type NoteKey, parseNote, signatureBy, signatureLine, signatureLines } from '../stowage-verify.ts';
import { type Answer, inconsistent, otherRoot, type Witness } from './witness.ts';

const LOOK_MS = 60_000;
/** No answer of a witness is longer. */
const LONGEST_ANSWER = 16 << 10;
/** A clock that is wrong by more makes its word worthless. */
const LARGEST_SKEW_MS = 3600_000;
const SIZE_TYPE = 'text/x.tlog.size';

/** A server that speaks the C2SP protocol tlog-witness, and signs with a key that is known. */
export function httpWitness(url: string, key: NoteKey, lookMs = LOOK_MS): Witness {
  const target = `${url.replace(/\/$/, '')}/add-checkpoint`;
  return {
    name: key.name,
    lookMs,
    async show(old, proof, note, signal) {
      const lines = [`old ${old}`, ...proof.map((node) => node.toString('base64')), ''];
      const response = await fetch(target, {
        method: 'POST',
        redirect: 'manual',
        headers: { 'content-type': 'text/plain; charset=utf-8' },
        body: `${lines.join('\n')}\n${note}`,
        signal,
      }).catch((error: Error) => {
        // `fetch failed` says nothing.
        throw error.cause instanceof Error ? error.cause : error;
      });
      const text = await textOf(response);
      const { status } = response;
      if (status === 200) return answered(note, text, key);
      const seq = Number(/^(0|[1-9]\d{0,14})\n$/.exec(text)?.[1] ?? Number.NaN);
      const isSize = response.headers.get('content-type')?.startsWith(SIZE_TYPE) && !Number.isNaN(seq);
      if (status === 409 && isSize && seq !== old) return { seq };
      if (status === 409 && isSize && parseNote(note).size === old) throw otherRoot(old);
      if (status === 422) throw inconsistent(old);
      if (status === 404) throw new Error('it does not know this trail: tell it the key of the trail');
      if (status === 403) throw new Error('it knows this trail by another key');
      throw new Error(`it answered with status ${status}`);
    },
  };
}

function answered(note: string, signatures: string, key: NoteKey): Answer {
  const signed = signatureBy({ body: parseNote(note).body, signatures: signatureLines(signatures) }, key);
  if (!signed) throw new Error(`what it answered is not signed with the key of ${key.name} that is known`);
  const { at } = signed;
  if (Math.abs(at - clock.now()) > LARGEST_SKEW_MS)
    throw new Error(`its clock, or ours, is wrong: it signed at ${new Date(at).toISOString()}`);
  // What others have put beside it is not kept.
  return { signatures: signatureLine(signed.signature), at };
}

async function textOf(response: Response): Promise<string> {
  const pieces: Uint8Array[] = [];
  let length = 0;
  for await (const piece of response.body ?? []) {
    length += piece.length;
    if (length > LONGEST_ANSWER) throw new Error('its answer is too long');
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString();
}
