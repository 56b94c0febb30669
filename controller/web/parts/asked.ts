import { useEffect } from 'react';
import { useLocation } from 'wouter';

/** As wouter tells a path: one that is badly written stays as it is. */
function decoded(path: string): string {
  try {
    return decodeURI(path);
  } catch {
    return path;
  }
}

/** Opens the dialog that the address names behind `#`, such as `/volumes#create`, once: then it is out of the address. */
export function useAsked<T extends string>(names: readonly T[], open: (name: T) => void): void {
  const [path] = useLocation();
  // Without dependencies: an address that differs only behind `#` tells nobody of itself.
  useEffect(() => {
    const asked = names.find((name) => location.hash === `#${name}`);
    // The page that is being left is not asked.
    if (asked === undefined || decoded(location.pathname) !== path) return;
    history.replaceState(history.state, '', location.pathname + location.search);
    open(asked);
  });
}
