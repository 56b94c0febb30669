const FILE = "<source file='/a'/>";
const BLOCK = "<source dev='/dev/a'/>";
const VDA = "<target dev='vda' bus='virtio'/>";
const HDA = "<target dev='hda' bus='ide'/>";
const SDA = "<target dev='sda' bus='scsi'/>";

const file = (inner = '', target = VDA, attributes = ''): string =>
  `<disk type='file'${attributes}>${FILE}${target}${inner}</disk>`;
const driver = (attributes: string, target = VDA): string =>
  `<disk type='file'><driver ${attributes}/>${FILE}${target}</disk>`;
const lun = (inner = '', target = SDA, attributes = '', source = BLOCK): string =>
  `<disk type='block' device='lun'${attributes}>${source}${target}${inner}</disk>`;
const network = (source: string, target = VDA, attributes = ''): string =>
  `<disk type='network'${attributes}>${source}${target}</disk>`;
const image = (inner: string, attributes = ''): string =>
  `<disk type='file'><driver type='raw'${attributes}/><source file='/a'>${inner}</source>${VDA}</disk>`;
const luks = (attributes = "format='luks'"): string =>
  `<encryption ${attributes}><secret type='passphrase' usage='u'/></encryption>`;
const auth = (type: string): string => `<auth username='u'><secret type='${type}' usage='s'/></auth>`;
const limits = (inner: string): string => file(`<iotune>${inner}</iotune>`);
const bytes = '<total_bytes_sec>1</total_bytes_sec>';

export interface RuleCase {
  /** virsh's message, without `error: `. */
  message: string;
  refused: string;
  taken: string;
  /** A limit of QEMU, which libvirt's test driver does not know. Messages are those of libvirt 9.0.0's QEMU driver. */
  qemu?: true;
  /** What libvirt lets through, and Stowage does not. */
  beyond?: true;
}

/** A disk that each rule refuses, and the nearest that it does not. */
export const RULE_CASES: RuleCase[] = [
  {
    message: "unsupported configuration: address of type 'unassigned' is supported only for hostdevs",
    refused: file("<address type='unassigned'/>", HDA),
    taken: file("<address type='drive' controller='0' bus='0' target='0' unit='0'/>", HDA),
  },
  {
    message: "unsupported configuration: authentication is not supported for protocol 'nbd'",
    refused: network(`<source protocol='nbd' name='x'><host name='h'/>${auth('iscsi')}</source>`),
    taken: network(`<source protocol='iscsi' name='x/1'><host name='h'/>${auth('iscsi')}</source>`),
  },
  {
    message: "unsupported configuration: unknown secret type 'x'",
    refused: network(`<source protocol='rbd' name='p/x'>${auth('x')}</source>`),
    taken: network(`<source protocol='rbd' name='p/x'>${auth('ceph')}</source>`),
  },
  {
    message: "unsupported configuration: invalid secret type 'ceph'",
    refused: network(`<source protocol='iscsi' name='x/1'>${auth('ceph')}</source>`),
    taken: network(`<source protocol='http' name='x'>${auth('ceph')}</source>`),
  },
  {
    message: 'unsupported configuration: unfiltered sgio is no longer supported',
    refused: lun('', SDA, " sgio='unfiltered'"),
    taken: lun('', SDA, " sgio='filtered'"),
  },
  {
    message: "unsupported configuration: disk device='lun' is not supported for protocol='nbd'",
    refused: network("<source protocol='nbd' name='x'><host name='h'/></source>", SDA, " device='lun'"),
    taken: network("<source protocol='iscsi' name='x/1'><host name='h'/></source>", SDA, " device='lun'"),
  },
  {
    message: "unsupported configuration: disk device='lun' is only valid for block type disk source",
    refused: file('', SDA, " device='lun'"),
    taken: lun(),
  },
  {
    message: "unsupported configuration: disk device 'lun' must use 'raw' format",
    refused: lun("<driver type='qcow2'/>"),
    taken: lun("<driver type='raw'/>"),
  },
  {
    message: "unsupported configuration: disk device 'lun' doesn't support storage slice",
    refused: lun(
      '',
      SDA,
      '',
      "<source dev='/dev/a'><slices><slice type='storage' offset='0' size='512'/></slices></source>",
    ),
    taken: image("<slices><slice type='storage' offset='0' size='512'/></slices>"),
  },
  {
    message: "unsupported configuration: disk device 'lun' doesn't support encryption",
    refused: lun('', SDA, '', `<source dev='/dev/a'>${luks()}</source>`),
    taken: image(luks()),
  },
  {
    message: 'unsupported configuration: <reservations/> allowed only for lun devices',
    refused: `<disk type='block'><source dev='/dev/a'><reservations managed='yes'/></source>${VDA}</disk>`,
    taken: lun('', SDA, '', "<source dev='/dev/a'><reservations managed='yes'/></source>"),
  },
  {
    message: "unsupported configuration: rawio can be used only with device='lun'",
    refused: file('', VDA, " rawio='no'"),
    taken: lun('', SDA, " rawio='yes'"),
  },
  {
    message: "unsupported configuration: sgio can be used only with device='lun'",
    refused: file('', VDA, " sgio='filtered'"),
    taken: lun('', SDA, " sgio='filtered'"),
  },
  ...(['bytes_sec', 'iops_sec', 'bytes_sec_max', 'iops_sec_max'] as const).map((family) => ({
    message: `XML error: total and read/write ${family} cannot be set at the same time`,
    refused: limits(`<total_${family}>9</total_${family}><write_${family}>1</write_${family}>`),
    taken: limits(`<read_${family}>9</read_${family}><write_${family}>1</write_${family}>`),
  })),
  {
    message:
      "unsupported configuration: Invalid address type 'pci' for the disk 'hda' with the bus type 'ide'",
    refused: file("<address type='pci' slot='0x05'/>", HDA),
    taken: file("<address type='pci' slot='0x05'/>"),
  },
  {
    message: "unsupported configuration: disk model 'virtio' not supported for bus 'scsi'",
    refused: file('', SDA, " model='virtio'"),
    taken: file('', VDA, " model='virtio'"),
  },
  {
    message:
      'unsupported configuration: queues attribute in disk driver element is only supported by virtio-blk',
    refused: driver("queues='2'", HDA),
    taken: driver("queues='2'"),
  },
  {
    message: 'unsupported configuration: disk event_idx mode supported only for virtio bus',
    refused: driver("event_idx='on'", HDA),
    taken: driver("event_idx='on'"),
  },
  {
    message: 'unsupported configuration: disk ioeventfd mode supported only for virtio bus',
    refused: driver("ioeventfd='on'", HDA),
    taken: driver("ioeventfd='on'"),
  },
  ...(
    [
      ['iommu', 'iommu driver option'],
      ['ats', 'ats driver option'],
      ['packed', 'packed driver option'],
      ['page_per_vq', 'page_per_vq option'],
    ] as const
  ).map(([option, words]) => ({
    message: `unsupported configuration: ${words} is only supported for virtio devices`,
    refused: driver(`${option}='on'`, HDA),
    taken: driver(`${option}='on'`),
  })),
  {
    message: "unsupported configuration: NVMe namespace can't be zero",
    refused: `<disk type='nvme'><source type='pci' namespace='0'><address bus='0x01'/></source>${VDA}</disk>`,
    taken: `<disk type='nvme'><source type='pci' namespace='1'><address bus='0x01'/></source>${VDA}</disk>`,
  },
  {
    message: 'unsupported configuration: tray is only valid for cdrom and floppy',
    refused: file('', "<target dev='hda' bus='ide' tray='open'/>"),
    taken: file('', "<target dev='hda' bus='ide' tray='open'/>", " device='cdrom'"),
  },
  {
    message: 'XML error: disk vendor is not printable string',
    refused: file('<vendor>\u00e9</vendor>', SDA),
    taken: file('<vendor>e</vendor>', SDA),
  },
  {
    message: 'unsupported configuration: disk vendor is more than 8 characters',
    refused: file('<vendor>123456789</vendor>', SDA),
    taken: file('<vendor>12345678</vendor>', SDA),
  },
  {
    message: 'XML error: disk product is not printable string',
    refused: file('<product>\u00e9</product>', SDA),
    taken: file('<product>e</product>', SDA),
  },
  {
    message: 'unsupported configuration: disk product is more than 16 characters',
    refused: file('<product>12345678901234567</product>', SDA),
    taken: file('<product>1234567890123456</product>', SDA),
  },
  {
    message: "internal error: Invalid bus type 'ide' for floppy disk",
    refused: file('', HDA, " device='floppy'"),
    taken: file('', "<target dev='fda' bus='fdc'/>", " device='floppy'"),
  },
  {
    message: "internal error: Invalid bus type 'fdc' for disk",
    refused: file('', "<target dev='fda' bus='fdc'/>"),
    taken: file('', "<target dev='fda'/>", " device='floppy'"),
  },
  {
    message: 'XML error: removable is only valid for usb disks',
    refused: file('', "<target dev='sda' bus='scsi' removable='on'/>"),
    taken: file('', "<target dev='sda' bus='usb' removable='on'/>"),
  },
  {
    message: "XML error: disk startupPolicy 'optional' is not allowed for disk of 'network' type",
    refused: network("<source protocol='nbd' name='x' startupPolicy='optional'><host name='h'/></source>"),
    taken: `<disk type='file'><source file='/a' startupPolicy='optional'/>${VDA}</disk>`,
  },
  {
    message: "XML error: disk startupPolicy 'requisite' is allowed only for cdrom or floppy",
    refused: `<disk type='file'><source file='/a' startupPolicy='requisite'/>${VDA}</disk>`,
    taken: `<disk type='file' device='cdrom'><source file='/a' startupPolicy='requisite'/>${HDA}</disk>`,
  },
  {
    message: 'internal error: Malformed wwn: 5',
    refused: file('<wwn>5</wwn>', SDA),
    taken: file('<wwn>5000c50015ea71aa</wwn>', SDA),
  },
  {
    message: 'internal error: Invalid harddisk device name: fda',
    refused: file('', "<target dev='fda' bus='virtio'/>"),
    taken: file('', "<target dev='xvda' bus='virtio'/>"),
  },
  {
    message: 'internal error: Invalid floppy device name: hda',
    refused: file('', "<target dev='hda' bus='fdc'/>", " device='floppy'"),
    taken: file('', "<target dev='fdb' bus='fdc'/>", " device='floppy'"),
  },
  {
    message: 'missing source information for device vda',
    refused: `<disk type='block'><source/>${VDA}</disk>`,
    taken: `<disk type='block' device='cdrom'><source/>${HDA}</disk>`,
  },

  // What QEMU cannot do.
  {
    qemu: true,
    message: "unsupported configuration: virtio disk cannot have an address of type 'drive'",
    refused: file("<address type='drive'/>"),
    taken: file("<address type='virtio-mmio'/>"),
  },
  {
    qemu: true,
    message: "unsupported configuration: CHS geometry can not be set for 'usb' bus",
    refused: file("<geometry cyls='1' heads='1' secs='1'/>", "<target dev='sda' bus='usb'/>"),
    taken: file("<geometry cyls='1' heads='1' secs='1'/>"),
  },
  {
    qemu: true,
    message: "unsupported configuration: CHS translation mode can only be set for 'ide' bus not 'virtio'",
    refused: file("<geometry cyls='1' heads='1' secs='1' trans='lba'/>"),
    taken: file("<geometry cyls='1' heads='1' secs='1' trans='lba'/>", HDA),
  },
  {
    qemu: true,
    message: "internal error: Serial property not supported for drive bus 'sd'",
    refused: file('<serial>x</serial>', "<target dev='sda' bus='sd'/>"),
    taken: file('<serial>x</serial>', SDA),
  },
  {
    qemu: true,
    message: "unsupported configuration: disk type of 'vda' does not support ejectable media",
    refused: file('', VDA, " device='cdrom'"),
    taken: file('', SDA, " device='cdrom'"),
  },
  {
    qemu: true,
    message: "unsupported configuration: copy_on_read is not compatible with read-only disk 'vda'",
    refused: `<disk type='file'><driver copy_on_read='on'/>${FILE}${VDA}<readonly/></disk>`,
    taken: `<disk type='file'><driver copy_on_read='off'/>${FILE}${VDA}<readonly/></disk>`,
  },
  {
    qemu: true,
    message: "unsupported configuration: copy_on_read is not supported with removable disk 'fda'",
    refused: `<disk type='file' device='floppy'><driver copy_on_read='on'/>${FILE}<target dev='fda'/></disk>`,
    taken: driver("copy_on_read='on'"),
  },
  {
    qemu: true,
    message: 'unsupported configuration: Only ide and scsi disk support wwn',
    refused: file('<wwn>5000c50015ea71aa</wwn>'),
    taken: file('<wwn>5000c50015ea71aa</wwn>', HDA),
  },
  {
    qemu: true,
    message: 'unsupported configuration: Only scsi disk supports vendor and product',
    refused: file('<vendor>v</vendor>'),
    taken: file('<vendor>v</vendor><product>p</product>', SDA),
  },
  {
    qemu: true,
    message: "unsupported configuration: disk device='lun' is not supported for bus='sata'",
    refused: lun('', "<target dev='sda' bus='sata'/>"),
    taken: lun('', VDA),
  },
  {
    qemu: true,
    message: "unsupported configuration: copy_on_read is not compatible with 'lun' disk 'sda'",
    refused: lun("<driver copy_on_read='on'/>"),
    taken: lun("<driver copy_on_read='off'/>"),
  },
  {
    qemu: true,
    message: 'unsupported configuration: Setting wwn is not supported for lun device',
    refused: lun('<wwn>5000c50015ea71aa</wwn>'),
    taken: file('<wwn>5000c50015ea71aa</wwn>', SDA),
  },
  {
    qemu: true,
    message: 'unsupported configuration: Setting vendor or product is not supported for lun device',
    refused: lun('<product>p</product>'),
    taken: file('<product>p</product>', SDA),
  },
  {
    qemu: true,
    message: 'internal error: rotation rate is only valid for SCSI/IDE/SATA bus',
    refused: file('', "<target dev='vda' bus='virtio' rotation_rate='1'/>"),
    taken: file('', "<target dev='sda' bus='sata' rotation_rate='1'/>"),
  },
  {
    qemu: true,
    message: 'internal error: rotation rate is only valid for disk device',
    refused: lun('', "<target dev='sda' bus='scsi' rotation_rate='1'/>"),
    taken: file('', "<target dev='sda' bus='scsi' rotation_rate='1'/>"),
  },
  {
    qemu: true,
    message: 'internal error: unexpected address type for usb disk',
    refused: file("<address type='drive'/>", "<target dev='sda' bus='usb'/>"),
    taken: file("<address type='usb' bus='0' port='1'/>", "<target dev='sda' bus='usb'/>"),
  },
  {
    qemu: true,
    message: 'unsupported configuration: readonly sata disks are not supported',
    refused: file('<readonly/>', "<target dev='sda' bus='sata'/>"),
    taken: file('<readonly/>', "<target dev='sda' bus='sata'/>", " device='cdrom'"),
  },
  {
    qemu: true,
    message: "unsupported configuration: io='native' needs either no disk cache or directsync cache mode",
    refused: driver("io='native' cache='writeback'"),
    taken: driver("io='native' cache='none'"),
  },
  {
    qemu: true,
    message: "unsupported configuration: scsi-block 'lun' devices do not support the serial property",
    refused: lun('<serial>x</serial>'),
    taken: lun('<serial>x</serial>', VDA),
  },
  {
    qemu: true,
    message: "internal error: driver serial 'a,b' contains unsafe characters",
    refused: file('<serial>a,b</serial>'),
    taken: file('<serial>a b_c-d.e+f</serial>'),
  },
  {
    qemu: true,
    message: 'unsupported configuration: IOThreads not available for bus scsi target sda',
    refused: driver("iothread='1'", SDA),
    taken: driver("io='threads'", SDA),
  },
  {
    qemu: true,
    message: "unsupported configuration: Disk iothread '1' not defined in iothreadid",
    refused: driver("iothread='1'"),
    taken: driver("io='threads'"),
  },
  {
    qemu: true,
    message: 'unsupported configuration: group_name can be configured only together with settings',
    refused: limits('<group_name>g</group_name>'),
    taken: limits(`${bytes}<group_name>g</group_name>`),
  },
  {
    qemu: true,
    message:
      'argument unsupported: block I/O throttle limit must be no more than 1000000000000000 using QEMU',
    refused: limits(`<total_bytes_sec>${10n ** 15n + 1n}</total_bytes_sec>`),
    taken: limits(`<total_bytes_sec>${10n ** 15n}</total_bytes_sec>`),
  },
  {
    qemu: true,
    message: "unsupported configuration: transient disk 'hda' must not be empty",
    refused: `<disk type='file' device='cdrom'>${HDA}<transient/></disk>`,
    taken: `<disk type='file' device='cdrom'>${HDA}</disk>`,
  },
  {
    qemu: true,
    message: "unsupported configuration: transient disk 'vda' must not be read-only",
    refused: file('<transient/><readonly/>'),
    taken: file('<transient/>'),
  },
  {
    qemu: true,
    message: "unsupported configuration: transient disk supported only with 'file' type (vda)",
    refused: `<disk type='block'>${BLOCK}${VDA}<transient/></disk>`,
    taken: file('<transient/>'),
  },
  {
    qemu: true,
    message: "unsupported configuration: disk bus 'ide' doesn't support transiend disk backing image sharing",
    refused: file("<transient shareBacking='yes'/>", HDA),
    taken: file("<transient shareBacking='yes'/>"),
  },
  {
    qemu: true,
    message:
      "unsupported configuration: shared access for disk 'vda' requires use of supported storage format",
    refused: `<disk type='file'><driver type='qcow2'/>${FILE}${VDA}<shareable/></disk>`,
    taken: file('<shareable/>'),
  },
  {
    qemu: true,
    message: "unsupported configuration: unsupported driver name 'phy' for disk 'vda'",
    refused: driver("name='phy'"),
    taken: driver("name='qemu'"),
  },
  {
    qemu: true,
    message: "unsupported configuration: invalid disk target 'vda1', partitions can't appear in disk targets",
    refused: file('', "<target dev='vda1' bus='virtio'/>"),
    taken: file('', "<target dev='vdaa' bus='virtio'/>"),
  },
  {
    qemu: true,
    beyond: true,
    message: 'missing source information for device sda',
    refused: lun('', SDA, '', '<source/>'),
    taken: `<disk type='block' device='cdrom'><source/>${HDA}</disk>`,
  },
  {
    qemu: true,
    message:
      "unsupported configuration: 'directory' storage format is not directly supported by QEMU, use 'dir' disk type instead",
    refused: driver("type='dir'"),
    taken: driver("type='vmdk'"),
  },
  {
    qemu: true,
    message: "unsupported configuration: storage format 'fat' is supported only with 'dir' storage type",
    refused: driver("type='fat'"),
    taken: driver("type='vpc'"),
  },
  {
    qemu: true,
    message: "unsupported configuration: storage type 'dir' requires use of storage format 'fat'",
    refused: `<disk type='dir'><source dir='/d'/>${VDA}<readonly/></disk>`,
    taken: `<disk type='dir'><driver type='fat'/><source dir='/d'/>${VDA}<readonly/></disk>`,
  },
  {
    qemu: true,
    message: "unsupported configuration: virtual FAT storage can't be accessed in read-write mode",
    refused: `<disk type='dir'><driver type='fat'/><source dir='/d'/>${VDA}</disk>`,
    taken: `<disk type='dir'><driver type='fat'/><source dir='/d'/>${VDA}<readonly/></disk>`,
  },
  {
    qemu: true,
    message: "unsupported configuration: 'nfs' protocol requires the usage of exactly one host",
    refused: network("<source protocol='nfs' name='/x'/>"),
    taken: network("<source protocol='nfs' name='/x'><host name='h'/></source>"),
  },
  {
    qemu: true,
    message: "unsupported configuration: 'nfs' host must use TCP protocol",
    refused: network("<source protocol='nfs' name='/x'><host transport='unix' socket='/s'/></source>"),
    taken: network("<source protocol='nfs' name='/x'><host name='h' transport='tcp'/></source>"),
  },
  {
    qemu: true,
    message: "unsupported configuration: port cannot be specified in 'nfs' protocol host",
    refused: network("<source protocol='nfs' name='/x'><host name='h' port='1'/></source>"),
    taken: network("<source protocol='nbd' name='/x'><host name='h' port='1'/></source>"),
  },
  {
    qemu: true,
    message: 'unsupported configuration: metadata cache max size control is supported only with qcow2 images',
    refused: `<disk type='file'><driver type='raw'><metadata_cache><max_size>5</max_size></metadata_cache></driver>${FILE}${VDA}</disk>`,
    taken: `<disk type='file'><driver type='qcow2'><metadata_cache><max_size>5</max_size></metadata_cache></driver>${FILE}${VDA}</disk>`,
  },
  {
    qemu: true,
    message: 'unsupported configuration: old qcow/qcow2 encryption is not supported',
    refused: image(luks("format='qcow'")),
    taken: image(luks()),
  },
  {
    qemu: true,
    message: 'unsupported configuration: luks2 is currently not supported by the qemu encryption engine',
    refused: image(luks("format='luks2'")),
    taken: network(`<source protocol='rbd' name='p/x'>${luks("format='luks2' engine='librbd'")}</source>`),
  },
  {
    qemu: true,
    message: 'unsupported configuration: librbd encryption is supported only with RBD backed disks',
    refused: image(luks("format='luks' engine='librbd'")),
    taken: network(`<source protocol='rbd' name='p/x'>${luks("format='luks' engine='librbd'")}</source>`),
  },
  {
    qemu: true,
    beyond: true,
    message: 'unsupported configuration: librbd encryption is supported only with RBD backed disks',
    refused: network(
      `<source protocol='nbd' name='x'><host name='h'/>${luks("format='luks' engine='librbd'")}</source>`,
    ),
    taken: network(`<source protocol='nbd' name='x'><host name='h'/>${luks()}</source>`),
  },
  {
    qemu: true,
    message: "unsupported configuration: encryption is supported only with 'raw' and 'qcow2' image format",
    refused: `<disk type='file'><driver type='vmdk'/><source file='/a'>${luks()}</source>${VDA}</disk>`,
    taken: image(luks()),
  },
  {
    qemu: true,
    message: "unsupported configuration: 'tlsHostname' field is supported only with NBD disks",
    refused: network("<source protocol='rbd' name='p/x' tlsHostname='t'/>"),
    taken: network("<source protocol='nbd' name='x' tlsHostname='t'><host name='h'/></source>"),
  },
];
