import type { ReactNode } from 'react';
import {
  Checkbox as AriaCheckbox,
  Select as AriaSelect,
  TextArea as AriaTextArea,
  Button,
  Input,
  Label,
  ListBox,
  ListBoxItem,
  Popover,
  SelectValue,
  Text,
  TextField,
} from 'react-aria-components';

interface FieldProps {
  label: string;
  value: string;
  onChange(value: string): void;
  hint?: ReactNode;
  type?: 'text' | 'password' | 'search';
  isRequired?: boolean;
  autoComplete?: string;
  autoFocus?: boolean;
  placeholder?: string;
  inputMode?: 'numeric' | 'decimal';
}

export function Field({ label, hint, placeholder, inputMode, ...props }: FieldProps) {
  return (
    <TextField {...props} className="field">
      <Label>{label}</Label>
      <Input placeholder={placeholder} inputMode={inputMode} spellCheck={false} />
      {hint && (
        <Text slot="description" className="hint">
          {hint}
        </Text>
      )}
    </TextField>
  );
}

export function TextArea({
  label,
  placeholder,
  ...props
}: Pick<FieldProps, 'label' | 'value' | 'onChange' | 'placeholder'>) {
  return (
    <TextField {...props} className="field">
      <Label>{label}</Label>
      <AriaTextArea placeholder={placeholder} rows={12} spellCheck={false} />
    </TextField>
  );
}

export interface Option {
  id: string;
  label: string;
  /** Why it cannot be chosen. */
  reason?: string;
}

interface ChoiceProps {
  label: string;
  options: readonly Option[];
  value: string;
  onChange(value: string): void;
  isLabelHidden?: boolean;
}

export function Choice({ label, options, value, onChange, isLabelHidden }: ChoiceProps) {
  return (
    <AriaSelect
      className="field"
      selectedKey={value}
      onSelectionChange={(key) => key !== null && onChange(String(key))}
      disabledKeys={options.filter(({ reason }) => reason !== undefined).map(({ id }) => id)}
      aria-label={isLabelHidden ? label : undefined}
    >
      {!isLabelHidden && <Label>{label}</Label>}
      <Button className="select">
        <SelectValue>{({ selectedText }) => selectedText ?? 'choose …'}</SelectValue>
        <span aria-hidden="true">▾</span>
      </Button>
      <Popover className="popover">
        <ListBox className="options" items={options}>
          {({ id, label: text, reason }) => (
            <ListBoxItem id={id} textValue={text} className="option">
              {text}
              {reason && <span className="reason">{reason}</span>}
            </ListBoxItem>
          )}
        </ListBox>
      </Popover>
    </AriaSelect>
  );
}

export function Check({
  children,
  isSelected,
  onChange,
}: {
  children: ReactNode;
  isSelected: boolean;
  onChange(isSelected: boolean): void;
}) {
  return (
    <AriaCheckbox className="check" isSelected={isSelected} onChange={onChange}>
      <span className="box" aria-hidden="true" />
      {children}
    </AriaCheckbox>
  );
}
