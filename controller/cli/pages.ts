import { callJson } from './client.ts';

/** Rows of one page. */
const PAGE = 1000;

/** A whole list, fetched a page after the other; `place` names the last row of a page to the controller. */
export async function callPages<T>(
  path: string,
  query: Record<string, string | number | undefined>,
  place: (row: T) => string,
): Promise<T[]> {
  const parameters = new URLSearchParams({ limit: String(PAGE) });
  for (const [name, value] of Object.entries(query))
    if (value !== undefined) parameters.set(name, String(value));
  const all: T[] = [];
  for (;;) {
    const page = await callJson<T[]>(`${path}?${parameters}`);
    all.push(...page);
    const last = page.at(-1);
    if (page.length < PAGE || last === undefined) return all;
    parameters.set('after', place(last));
  }
}
