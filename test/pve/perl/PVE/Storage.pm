package PVE::Storage;

# As much of Proxmox VE's module as a plug-in asks of it when it is loaded.

use strict;
use warnings;

sub APIVER { return $ENV{PVE_APIVER} // 15; }
sub APIAGE { return 6; }

1;
