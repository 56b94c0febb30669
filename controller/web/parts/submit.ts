import { useRef, useState } from 'react';

/** One piece of work at a time; what went wrong on the last one is kept. */
export function useSubmit(): {
  /** Does nothing while other work is being done. Never rejects. */
  submit(work: () => Promise<void>): Promise<void>;
  error: unknown;
  isBusy: boolean;
} {
  const [error, setError] = useState<unknown>();
  const [isBusy, setBusy] = useState(false);
  /** At once, and not with the next drawing: a second press comes before that. */
  const isRunning = useRef(false);
  const submit = async (work: () => Promise<void>): Promise<void> => {
    if (isRunning.current) return;
    isRunning.current = true;
    setBusy(true);
    setError(undefined);
    try {
      await work();
    } catch (failure) {
      setError(failure);
    } finally {
      setBusy(false);
      isRunning.current = false;
    }
  };
  return { submit, error, isBusy };
}
