import { type FormEvent, type ReactNode, useRef, useState } from 'react';
import { Dialog as AriaDialog, Heading, Modal, ModalOverlay } from 'react-aria-components';
import { Button, Problem } from './basics.tsx';
import { Field } from './form.tsx';
import { useSubmit } from './submit.ts';

interface DialogProps {
  title: string;
  isOpen: boolean;
  close(): void;
  children: ReactNode;
  /** Wide enough for a table. */
  isWide?: boolean;
  /** It is not closed by a click beside it, or Escape: something is being done, or it shows what is shown once. */
  isHeld?: boolean;
}

export function Dialog({ title, isOpen, close, children, isWide, isHeld }: DialogProps) {
  return (
    <ModalOverlay
      className="overlay"
      isOpen={isOpen}
      onOpenChange={(open) => !open && close()}
      isDismissable={!isHeld}
      isKeyboardDismissDisabled={isHeld}
    >
      <Modal className={isWide ? 'modal wide' : 'modal'}>
        <AriaDialog className="dialog">
          <Heading slot="title">{title}</Heading>
          {children}
        </AriaDialog>
      </Modal>
    </ModalOverlay>
  );
}

interface TaskProps extends Omit<DialogProps, 'isOpen' | 'isHeld'> {
  /** What the button says that does it. */
  verb: string;
  isDanger?: boolean;
  isReady?: boolean;
  /** Must be typed first: of what destroys something that a slip of the hand should not. */
  toType?: { what: string; text: string } | undefined;
  /** Does it; the dialog closes when it has succeeded, and else says why not. What takes many steps begins no other once it is to stop. */
  run(signal: AbortSignal): Promise<unknown>;
}

/** A dialog that does one thing. */
export function Task({
  verb,
  isDanger,
  isReady: isComplete = true,
  toType,
  run,
  close,
  children,
  ...dialog
}: TaskProps) {
  const [typed, setTyped] = useState('');
  const isReady = isComplete && (toType === undefined || typed === toType.text);
  const { submit, error, isBusy } = useSubmit();
  const stop = useRef(new AbortController());
  const begin = (event: FormEvent): void => {
    event.preventDefault();
    if (!isReady) return;
    void submit(async () => {
      stop.current = new AbortController();
      await run(stop.current.signal);
      close();
    });
  };
  return (
    <Dialog {...dialog} isOpen close={close} isHeld={isBusy}>
      <form onSubmit={begin} className="form" noValidate>
        {children}
        {toType && (
          <Field
            label={`Type ${toType.what}, ${toType.text}`}
            value={typed}
            onChange={setTyped}
            autoComplete="off"
            autoFocus
          />
        )}
        {error !== undefined && <Problem error={error} />}
        <footer>
          <Button onPress={() => (isBusy ? stop.current.abort() : close())}>
            {isBusy ? 'Stop' : 'Cancel'}
          </Button>
          <Button type="submit" look={isDanger ? 'danger' : 'primary'} isDisabled={!isReady} isBusy={isBusy}>
            {verb}
          </Button>
        </footer>
      </form>
    </Dialog>
  );
}
