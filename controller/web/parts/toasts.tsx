import { type ReactNode, useSyncExternalStore } from 'react';
import { Button } from './basics.tsx';

interface Toast {
  id: number;
  text: ReactNode;
  isBad: boolean;
}

const SHOWN_MS = 8000;
let toasts: readonly Toast[] = [];
let last = 0;
const listeners = new Set<() => void>();

function set(next: readonly Toast[]): void {
  toasts = next;
  for (const listener of listeners) listener();
}
const take = (id: number): void => set(toasts.filter((toast) => toast.id !== id));

export const forgetToasts = (): void => set([]);

/** Says what was done, or what was not. What went wrong stays until somebody has read it. */
export function toast(text: ReactNode, isBad = false): void {
  const id = ++last;
  set([...toasts.slice(-4), { id, text, isBad }]);
  if (!isBad) setTimeout(() => take(id), SHOWN_MS);
}

export function Toasts() {
  const shown = useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => toasts,
  );
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
