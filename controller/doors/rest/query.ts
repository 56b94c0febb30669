import type { z } from 'zod';

/** What a schema of a field is, without what makes it optional. */
function kindOf(schema: z.core.$ZodType): string {
  const { def } = schema._zod;
  if ('innerType' in def) return kindOf(def.innerType as z.core.$ZodType);
  return def.type;
}

/** What stands for a value in a URL, as the value that a field of the schema takes; what is no such value stays text. */
function fieldOf(schema: z.core.$ZodType | undefined, text: unknown): unknown {
  if (schema === undefined || typeof text !== 'string') return text;
  switch (kindOf(schema)) {
    case 'boolean':
      return text === 'true' ? true : text === 'false' ? false : text;
    case 'number':
      return /^-?\d+(\.\d+)?$/.test(text) ? Number(text) : text;
    case 'array':
      return text === '' ? [] : text.split(',');
    default:
      return text;
  }
}

/** The fields of an input that came in a URL, where all is text. */
export function fromUrl(input: z.ZodObject, given: Record<string, unknown>): Record<string, unknown> {
  const shape: Record<string, z.core.$ZodType> = input.shape;
  return Object.fromEntries(Object.entries(given).map(([name, text]) => [name, fieldOf(shape[name], text)]));
}
