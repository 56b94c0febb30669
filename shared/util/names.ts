import { z } from 'zod';
import { nameProblem } from './references.ts';

/** A host, pool, volume or snapshot name: one path component that no tool takes for an option. */
export const nameSchema = z.string().superRefine((name, context) => {
  const problem = nameProblem(name);
  if (problem) context.addIssue({ code: 'custom', message: `the name is refused: ${problem}` });
});

/** What stands in the audit trail for the machine itself, and for whoever has not said who they are. */
const RESERVED = ['controller', 'nobody'];

/** The name of a person or a token: nobody has one that looks like another, or that the trail uses for the controller. */
export const principalNameSchema = nameSchema
  .refine((name) => !/\p{Cf}/u.test(name), 'the name is refused: it holds a character that is not seen')
  .refine(
    (name) => !RESERVED.includes(name.toLowerCase()),
    'the name is refused: the audit trail calls the controller itself so',
  );
