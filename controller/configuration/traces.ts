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
    ca: ca === undefined ? undefined : secretIn(ca),
    sample: traces.sample,
    followsCaller: true,
  };
}

/** What a file of lines `NAME: VALUE` holds. */
function headersIn(path: string): Record<string, string> {
  return Object.fromEntries(
    secretIn(path)
      .split('\n')
      .map((line, at) => {
        const [, name, value] = /^([\w-]+):[ \t]*(\S.*?)\s*$/.exec(line) ?? [];
        if (name !== undefined && value !== undefined) return [name, value];
        throw new StowageError('invalid-argument', `${path}, line ${at + 1}: a header is NAME: VALUE`);
      }),
  );
}
