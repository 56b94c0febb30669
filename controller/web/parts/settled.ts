import { useEffect, useState } from 'react';

const SETTLED_MS = 400;

/** A value as it was before somebody began to type: it follows when they have stopped for a moment. */
export function useSettled<T>(value: T): T {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), SETTLED_MS);
    return () => clearTimeout(timer);
  }, [value]);
  return settled;
}
