import { X509Certificate } from 'node:crypto';
import { validateHeaderValue } from 'node:http';
import { StowageError } from '../../shared/util/errors.ts';
import type { TracesOptions } from '../traces/start.ts';
import type { Configuration } from './schema.ts';
import { secretIn } from './secret-file.ts';

/** Those of traces alone count more. */
const ENDPOINTS = ['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT', 'OTEL_EXPORTER_OTLP_ENDPOINT'] as const;
const PROTOCOLS = ['OTEL_EXPORTER_OTLP_TRACES_PROTOCOL', 'OTEL_EXPORTER_OTLP_PROTOCOL'] as const;
const PROTOCOL = 'http/protobuf';

/**
 * Where traces are sent, if they are: as the variables of OpenTelemetry say where one of them names a collector, or as the file says.
 * Throws `invalid-argument`.
 */
export function tracesOptions(env: NodeJS.ProcessEnv, { traces }: Configuration): TracesOptions | undefined {
  const isDisabled = env.OTEL_SDK_DISABLED?.toLowerCase() === 'true';
  if (isDisabled || env.OTEL_TRACES_EXPORTER === 'none') return undefined;
  const endpoints = ENDPOINTS.filter((name) => env[name]);
  if (endpoints.length === 0) return traces && ofFile(traces);
  for (const name of endpoints)
    if (!/^https?:$/.test(URL.parse(env[name]!)?.protocol ?? ''))
      throw new StowageError('invalid-argument', `${name} is no URL such as http://127.0.0.1:4318`);
  const protocol = PROTOCOLS.find((name) => env[name]);
  if (protocol !== undefined && env[protocol] !== PROTOCOL)
    throw new StowageError(
      'invalid-argument',
      `${protocol} is '${env[protocol]}': traces are sent by ${PROTOCOL}`,
    );
  return samplerOf(env);
}

/** As OpenTelemetry defines it: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/ */
function samplerOf(env: NodeJS.ProcessEnv): TracesOptions {
  const name = env.OTEL_TRACES_SAMPLER || 'parentbased_always_on';
  const argument = env.OTEL_TRACES_SAMPLER_ARG || '1';
  const [, parent, kind] = /^(parentbased_)?(always_on|always_off|traceidratio)$/.exec(name) ?? [];
  if (kind === undefined)
    throw new StowageError('invalid-argument', `OTEL_TRACES_SAMPLER is '${name}', which is not known`);
  const ratio = Number(argument);
  if (kind === 'traceidratio' && !(ratio >= 0 && ratio <= 1))
    throw new StowageError('invalid-argument', 'OTEL_TRACES_SAMPLER_ARG is a number from 0 to 1');
  const samples = { always_on: 1, always_off: 0, traceidratio: ratio };
  return { sample: samples[kind as keyof typeof samples], followsCaller: parent !== undefined };
}

function ofFile(traces: NonNullable<Configuration['traces']>): TracesOptions {
  const { 'headers-file': headers, 'ca-file': ca } = traces;
  return {
    url: new URL('v1/traces', traces.endpoint.replace(/\/?$/, '/')).href,
    headers: headers === undefined ? undefined : headersIn(headers),
    ca: ca === undefined ? undefined : certificateIn(ca),
    sample: traces.sample,
    followsCaller: true,
  };
}

function certificateIn(path: string): string {
  const pem = secretIn(path);
  try {
    new X509Certificate(pem);
  } catch (error) {
    throw new StowageError(
      'invalid-argument',
      `traces.ca-file: ${path} holds no certificate: ${(error as Error).message}`,
    );
  }
  return pem;
}

/** What the exporter says itself. */
const OURS = new Set([
  ...['host', 'connection', 'transfer-encoding', 'content-length', 'content-type', 'content-encoding'],
  ...['user-agent', 'expect', 'te', 'trailer', 'upgrade'],
]);

/** What a file of lines `NAME: VALUE` holds; empty ones, and those that begin with `#`, say nothing. A value is never quoted. */
function headersIn(path: string): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const [at, line] of secretIn(path).split('\n').entries()) {
    if (/^\s*(#|$)/.test(line)) continue;
    const [, name = '', value = ''] = /^([\w-]+):[ \t]*(.*?)\s*$/.exec(line) ?? [];
    const isWrong = name === '' || value === '' || OURS.has(name.toLowerCase());
    if (isWrong || !isHeaderValue(name, value))
      throw new StowageError(
        'invalid-argument',
        `traces.headers-file: ${path}, line ${at + 1}: a header is NAME: VALUE, of ASCII alone, and none of ${[...OURS].join(', ')}`,
      );
    headers[name] = value;
  }
  return headers;
}

function isHeaderValue(name: string, value: string): boolean {
  try {
    validateHeaderValue(name, value);
    return true;
  } catch {
    return false;
  }
}
