/**
 * A path as libvirt stores it: no double slashes and none at the end. Two at the start, which POSIX leaves to the
 * system, stay; so does everything with a scheme.
 */
export function sanitizePath(path: string): string {
  if (path.includes('://')) return path;
  const lead = /^\/\/(?!\/)/.test(path) ? '/' : '';
  const single = path.replace(/\/{2,}/g, '/');
  return lead + (single.length > 1 ? single.replace(/\/$/, '') : single);
}
