import type { ReactNode } from 'react';
import { Button } from './basics.tsx';
import { SharedValue, useShared } from './shared-value.ts';

interface Toast {
  id: number;
  text: ReactNode;
  isBad: boolean;
}

const SHOWN_MS = 8000;
const toasts = new SharedValue<readonly Toast[]>([]);
let last = 0;

const take = (id: number): void => toasts.set(toasts.now.filter((toast) => toast.id !== id));

export const forgetToasts = (): void => toasts.set([]);

/** Says what was done, or what was not. What went wrong stays until somebody has read it. */
export function toast(text: ReactNode, isBad = false): void {
  const id = ++last;
  toasts.set([...toasts.now.slice(-4), { id, text, isBad }]);
  if (!isBad) setTimeout(() => take(id), SHOWN_MS);
}

export function Toasts() {
  const shown = useShared(toasts);
  return (
    <div className="toasts" role="status" aria-live="polite">
      {shown.map(({ id, text, isBad }) => (
        <div key={id} className={isBad ? 'toast bad' : 'toast'}>
          <span>{text}</span>
          <Button look="quiet" aria-label="Dismiss" onPress={() => take(id)}>
            ×
          </Button>
        </div>
      ))}
    </div>
  );
}
