import type { ReactNode } from 'react';
import { Button } from './basics.tsx';
import { Dialog } from './dialog.tsx';
import { toast } from './toasts.tsx';

/** Shows what is told this once, such as the secret of a token: it is closed by its button only. */
export function ShownOnce({
  title,
  value,
  isLong,
  children,
  close,
}: {
  title: string;
  /** What is copied. */
  value: string;
  /** It has several lines. */
  isLong?: boolean;
  children: ReactNode;
  close(): void;
}) {
  return (
    <Dialog title={title} isOpen isHeld isWide={isLong} close={close}>
      <div className="form">
        {children}
        {isLong ? (
          // biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls
          <pre className="commands" tabIndex={0}>
            {value}
          </pre>
        ) : (
          <p>
            <code className="breaks">{value}</code>
          </p>
        )}
        <footer>
          {/* Only over TLS, or on the same machine. */}
          {navigator.clipboard !== undefined && (
            <Button
              onPress={() => void navigator.clipboard.writeText(value).then(() => toast('It is copied'))}
            >
              Copy
            </Button>
          )}
          <Button look="primary" onPress={close}>
            Close
          </Button>
        </footer>
      </div>
    </Dialog>
  );
}
