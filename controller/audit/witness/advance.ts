import type { Note } from '../stowage-verify.ts';
import { isConsistent } from './proof.ts';

/** Why a witness does not sign: it has seen the trail up to another record than it is told, or another trail. */
export type Refusal = { seq: number } | 'other-root' | 'inconsistent' | 'malformed';

/** Whether a checkpoint goes on from what a witness has seen last; by the rules of tlog-witness. */
export function refusalOf(
  last: Pick<Note, 'size' | 'root'> | undefined,
  old: number,
  note: Pick<Note, 'size' | 'root'>,
  proof: readonly Buffer[],
): Refusal | undefined {
  if (old > note.size) return 'malformed';
  const seq = last?.size ?? 0;
  if (old !== seq) return { seq };
  if (seq === 0) return proof.length === 0 ? undefined : 'malformed';
  if (seq === note.size) return note.root.equals(last!.root) ? undefined : 'other-root';
  return isConsistent(last!, note, proof) ? undefined : 'inconsistent';
}
