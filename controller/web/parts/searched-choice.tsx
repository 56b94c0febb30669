import { useState } from 'react';
import { Button, ComboBox, Input, Label, ListBox, ListBoxItem, Popover, Text } from 'react-aria-components';
import type { Option } from './form.tsx';

/** As many as somebody looks through; who wants another types a part of its name. */
const MOST_SHOWN = 100;

interface SearchedOption extends Option {
  /** More about it, which may change. */
  detail?: string;
}

interface SearchedChoiceProps {
  label: string;
  options: readonly SearchedOption[];
  value: string;
  onChange(value: string): void;
}

/**
 * A choice among very many: those are shown that have in their labels or details what is typed. A label stays the same while somebody
 * chooses: the list would open by itself.
 */
export function SearchedChoice({ label, options, value, onChange }: SearchedChoiceProps) {
  const option = options.find(({ id }) => id === value);
  const chosen = option?.label ?? '';
  /** What is being typed, until something is chosen. */
  const [typed, setTyped] = useState<string>();
  const text = typed?.toLowerCase() ?? '';
  const found = options.filter((each) => `${each.label} ${each.detail ?? ''}`.toLowerCase().includes(text));
  const more = found.length - MOST_SHOWN;
  const shown = found.slice(0, MOST_SHOWN);
  return (
    <ComboBox
      className="field"
      items={shown}
      selectedKey={value || null}
      inputValue={typed ?? chosen}
      onInputChange={(now) => setTyped(now === chosen ? undefined : now)}
      onSelectionChange={(key) => {
        setTyped(undefined);
        if (key !== null) onChange(String(key));
      }}
      onOpenChange={(isOpen) => !isOpen && setTyped(undefined)}
      disabledKeys={shown.filter(({ reason }) => reason !== undefined).map(({ id }) => id)}
      menuTrigger="focus"
      allowsEmptyCollection
    >
      <Label>{label}</Label>
      <div className="combo">
        <Input placeholder="type a part of its name" spellCheck={false} />
        <Button className="button quiet">▾</Button>
      </div>
      {option?.detail && (
        <Text slot="description" className="hint">
          {option.detail}
        </Text>
      )}
      <Popover className="popover">
        <ListBox<SearchedOption>
          className="options"
          renderEmptyState={() => <p className="empty">None has this in its name.</p>}
        >
          {({ id, label: name, detail, reason }) => (
            <ListBoxItem id={id} textValue={name} className="option">
              {name} {detail && <span className="detail">{detail}</span>}
              {reason && <span className="reason">{reason}</span>}
            </ListBoxItem>
          )}
        </ListBox>
        {more > 0 && <p className="empty">and {more.toLocaleString('en')} more: type more of the name</p>}
      </Popover>
    </ComboBox>
  );
}
