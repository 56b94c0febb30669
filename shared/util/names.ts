import { z } from 'zod';
import { nameProblem } from './references.ts';

/** A host, pool, volume or snapshot name: one path component that no tool takes for an option. */
export const nameSchema = z.string().superRefine((name, context) => {
  const problem = nameProblem(name);
  if (problem) context.addIssue({ code: 'custom', message: `the name is refused: ${problem}` });
});
