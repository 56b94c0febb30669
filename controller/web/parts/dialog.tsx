import { type FormEvent, type ReactNode, useState } from 'react';
import { Dialog as AriaDialog, Heading, Modal, ModalOverlay } from 'react-aria-components';
import { Button, Problem } from './basics.tsx';

interface DialogProps {
  title: string;
  isOpen: boolean;
  close(): void;
  children: ReactNode;
  /** Wide enough for a table. */
  isWide?: boolean;
}

export function Dialog({ title, isOpen, close, children, isWide }: DialogProps) {
  return (
    <ModalOverlay className="overlay" isOpen={isOpen} onOpenChange={(open) => !open && close()} isDismissable>
      <Modal className={isWide ? 'modal wide' : 'modal'}>
        <AriaDialog className="dialog">
          <Heading slot="title">{title}</Heading>
          {children}
        </AriaDialog>
      </Modal>
    </ModalOverlay>
  );
}

interface TaskProps extends Omit<DialogProps, 'isOpen'> {
  /** What the button says that does it. */
  verb: string;
  isDanger?: boolean;
  isReady?: boolean;
  /** Does it; the dialog closes when it has succeeded, and else says why not. */
  run(): Promise<unknown>;
}

/** A dialog that does one thing. */
export function Task({ verb, isDanger, isReady = true, run, close, children, ...dialog }: TaskProps) {
  const [error, setError] = useState<unknown>();
  const [isBusy, setBusy] = useState(false);
  const submit = async (event: FormEvent): Promise<void> => {
    event.preventDefault();
    if (!isReady || isBusy) return;
    setBusy(true);
    setError(undefined);
    try {
      await run();
      close();
    } catch (failure) {
      setError(failure);
    } finally {
      setBusy(false);
    }
  };
  return (
    <Dialog {...dialog} isOpen close={close}>
      <form onSubmit={(event) => void submit(event)} className="form" noValidate>
        {children}
        {error !== undefined && <Problem error={error} />}
        <footer>
          <Button onPress={close}>Cancel</Button>
          <Button type="submit" look={isDanger ? 'danger' : 'primary'} isDisabled={!isReady} isBusy={isBusy}>
            {verb}
          </Button>
        </footer>
      </form>
    </Dialog>
  );
}
