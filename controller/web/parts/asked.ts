import { useEffect, useSyncExternalStore } from 'react';
import { useLocation } from 'wouter';

/** All that changes an address: the browser tells of the first two, wouter of the others. */
const CHANGES = ['hashchange', 'popstate', 'pushState', 'replaceState'];

function subscribe(changed: () => void): () => void {
  for (const change of CHANGES) addEventListener(change, changed);
  return () => {
    for (const change of CHANGES) removeEventListener(change, changed);
  };
}

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
  const hash = useSyncExternalStore(subscribe, () => location.hash);
  useEffect(() => {
    const asked = names.find((name) => hash === `#${name}`);
    // The page that is being left is not asked.
    if (asked === undefined || decoded(location.pathname) !== path) return;
    history.replaceState(history.state, '', location.pathname + location.search);
    open(asked);
  });
}
