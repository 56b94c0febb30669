import type { ReactNode } from 'react';
import { Button } from './basics.tsx';
import { Dialog } from './dialog.tsx';
import { toast } from './toasts.tsx';

/** Shows what is told this once, such as the secret of a token. */
export function ShownOnce({
  title,
  value,
  children,
  close,
}: {
  title: string;
  value: string;
  children: ReactNode;
  close(): void;
}) {
  return (
    <Dialog title={title} isOpen isHeld close={close}>
      <div className="form">
        {children}
        <p>
          <code className="breaks">{value}</code>
        </p>
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
