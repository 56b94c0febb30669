import { Choice, Field } from './form.tsx';

const ROLES = [
  { id: 'viewer', label: 'viewer: looks' },
  { id: 'operator', label: 'operator: works with volumes and pools' },
  { id: 'admin', label: 'admin: everything, people and hosts too' },
];

export const scopesOf = (text: string): string[] => text.split(/[\s,]+/).filter((part) => part !== '');

export const RoleField = ({ value, onChange }: { value: string; onChange(value: string): void }) => (
  <Choice label="Role" value={value} onChange={onChange} options={ROLES} />
);

/** `isRequired`: nothing does not mean everywhere. */
export const ScopesField = ({
  value,
  onChange,
  isRequired = false,
}: {
  value: string;
  onChange(value: string): void;
  isRequired?: boolean;
}) => (
  <Field
    label="Where"
    value={value}
    onChange={onChange}
    isRequired={isRequired}
    hint={`HOST, HOST/POOL or @LABEL, with spaces between${isRequired ? '' : '; everywhere when empty'}`}
  />
);
