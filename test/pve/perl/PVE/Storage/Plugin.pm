package PVE::Storage::Plugin;

# Stands for the base class of Proxmox VE's plug-ins: what is not overridden is told.

use strict;
use warnings;

our $AUTOLOAD;
my %registered;

sub register { my ($class) = @_; $registered{ $class->type() } = $class; return; }
sub registered { return \%registered; }

sub AUTOLOAD {
    my $name = $AUTOLOAD =~ s/.*:://r;
    return if $name eq 'DESTROY';
    die "the base class would be asked: $name\n";
}

1;
