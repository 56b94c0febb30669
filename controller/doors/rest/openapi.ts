import { z } from 'zod';
import { XML_TYPE } from '../../../shared/conf/xml/write.ts';
import type { Action } from '../../actions/action.ts';
import type { Route } from './routes.ts';

const hasXml = (action: Action): boolean => action.document !== undefined || 'xml' in action.input.shape;

/** What the OpenAPI document says of a route: all of it is what its action says of itself. */
export function describeRoute(action: Action, { path, method, status = 200 }: Omit<Route, 'action'>) {
  const shape: Record<string, z.ZodType> = { ...action.input.shape };
  const inPath: Record<string, z.ZodType> = {};
  for (const [, name] of path.matchAll(/:(\w+)/g)) {
    inPath[name!] = shape[name!] ?? z.string();
    delete shape[name!];
  }
  const isBody = method === 'POST' || method === 'PUT';
  const rest = z.object(shape);
  const { xml: _, ...flags } = shape;
  const response =
    action.answer === 'nothing'
      ? { 204: z.null().describe('done') }
      : typeof action.answer === 'string'
        ? { 200: z.string().describe(action.answer === 'xml' ? "libvirt's document" : 'the bytes') }
        : { [status]: action.answer };
  return {
    tags: [action.name.split('.')[0]!],
    operationId: action.name,
    summary: action.summary,
    description: `Needs the role ${action.role}.${action.audited ? ' On record.' : ''}`,
    params: z.object(inPath),
    ...(isBody &&
      hasXml(action) && { consumes: ['application/json', XML_TYPE], querystring: z.object(flags).partial() }),
    ...(isBody ? Object.keys(shape).length > 0 && { body: rest } : { querystring: rest }),
    response,
  };
}
