import { type ReactNode, useEffect, useState } from 'react';
import {
  Button as AriaButton,
  Link as AriaLink,
  Meter as AriaMeter,
  ProgressBar as AriaProgressBar,
  type ButtonProps,
} from 'react-aria-components';
import { ApiError } from '../api/client.ts';
import { ago, formatBytes, localTime, percent } from './format.ts';

type Look = 'primary' | 'plain' | 'danger' | 'quiet';

/** `isBusy`: what it does is being done; it keeps the focus meanwhile. */
export function Button({
  look = 'plain',
  isBusy,
  ...props
}: ButtonProps & { look?: Look; isBusy?: boolean }) {
  return <AriaButton {...props} className={`button ${look}`} data-busy={isBusy || undefined} />;
}

export function A({ to, children, className }: { to: string; children: ReactNode; className?: string }) {
  return (
    <AriaLink href={to} className={`link ${className ?? ''}`}>
      {children}
    </AriaLink>
  );
}

/** The same moment for all times that are shown, which goes on every half minute. */
function useNow(): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 30_000);
    return () => clearInterval(timer);
  }, []);
  return now;
}

/** How long ago, with the exact local time behind it. */
export function Time({ at }: { at: number }) {
  const now = useNow();
  // A file may have any time.
  if (!Number.isFinite(at) || Math.abs(at) > 8.64e15) return <>unknown</>;
  return (
    <time dateTime={new Date(at).toISOString()} title={localTime(at)}>
      {ago(at, now)}
    </time>
  );
}

export const Size = ({ bytes }: { bytes: number }) => (
  <span className="number" title={`${bytes.toLocaleString('en')} bytes`}>
    {formatBytes(bytes)}
  </span>
);

export type Tone = 'good' | 'busy' | 'warn' | 'bad' | 'neutral';

/** A state in a word; its colour says no more than the word does. */
export const Badge = ({ tone, children }: { tone: Tone; children: ReactNode }) => (
  <span className={`badge ${tone}`}>{children}</span>
);

const fillTone = (share: number, fill?: string): Tone =>
  fill === 'critical' || (fill === undefined && share >= 95)
    ? 'bad'
    : fill === 'warning' || (fill === undefined && share >= 80)
      ? 'warn'
      : 'good';

/** How much of something is in use. */
export function Fill({
  label,
  share: given = 0,
  fill,
}: {
  label: string;
  /** In percent; undefined for nothing. */
  share: number | undefined;
  fill?: string;
}) {
  const share = Math.min(100, given);
  return (
    <AriaMeter
      value={share}
      aria-label={label}
      valueLabel={`${share.toFixed(0)} %`}
      className={`meter ${fillTone(share, fill)}`}
    >
      {({ valueText }) => (
        <>
          <span className="track">
            <span style={{ width: `${share}%` }} />
          </span>
          <span className="number">{valueText}</span>
        </>
      )}
    </AriaMeter>
  );
}

export function Progress({ label, done, total }: { label: string; done: number; total: number }) {
  const isKnown = total > 0;
  return (
    <AriaProgressBar
      aria-label={label}
      value={percent(done, total)}
      isIndeterminate={!isKnown}
      className="meter busy"
    >
      {({ percentage, valueText }) => (
        <>
          <span className="track">
            <span style={{ width: `${percentage ?? 0}%` }} />
          </span>
          <span className="number">{isKnown ? valueText : '…'}</span>
        </>
      )}
    </AriaProgressBar>
  );
}

/** What went wrong, and what to do next. */
export function Problem({ error, retry }: { error: unknown; retry?: () => void }) {
  const message = error instanceof Error ? error.message : String(error);
  const code = error instanceof ApiError ? error.code : undefined;
  return (
    <div className="problem" role="alert">
      <p>
        {message}
        {code && <code> [{code}]</code>}
      </p>
      {retry && <Button onPress={retry}>Try again</Button>}
    </div>
  );
}

/** A part of a page under a heading of its own. */
export function Section({
  title,
  children,
  tools,
}: {
  title: string;
  children: ReactNode;
  tools?: ReactNode;
}) {
  return (
    <section className="section">
      <header>
        <h2>{title}</h2>
        {tools && <div className="tools">{tools}</div>}
      </header>
      {children}
    </section>
  );
}

/** Names with their values. */
export function Facts({ rows }: { rows: (readonly [string, ReactNode] | undefined | false)[] }) {
  return (
    <dl className="facts">
      {rows.map(
        (row) =>
          row && (
            <div key={row[0]}>
              <dt>{row[0]}</dt>
              <dd>{row[1]}</dd>
            </div>
          ),
      )}
    </dl>
  );
}

export const Empty = ({ children }: { children: ReactNode }) => <p className="empty">{children}</p>;

export function Page({
  title,
  crumbs,
  tools,
  children,
}: {
  title: string;
  crumbs?: ReactNode;
  tools?: ReactNode;
  children: ReactNode;
}) {
  useEffect(() => {
    document.title = `${title} · Stowage`;
  }, [title]);
  return (
    <>
      <header className="page-head">
        <div>
          {crumbs && <p className="crumbs">{crumbs}</p>}
          <h1>{title}</h1>
        </div>
        {tools && <div className="tools">{tools}</div>}
      </header>
      {children}
    </>
  );
}
