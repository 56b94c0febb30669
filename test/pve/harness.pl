#!/usr/bin/perl

# Calls the methods of the plug-in as PVE::Storage does: reads one call a line, a JSON list of the method and its arguments, and
# writes one answer a line: {"answer": [...]} in list context, {"scalar": ...} with "scalar:" before the method, or {"error": "..."}.
# An argument {"cache": 1} is the cache of one call of Proxmox VE, {"file": "/path", "mode": "<"} an open file.

use strict;
use warnings;

use JSON::PP;
use Scalar::Util qw(blessed);

$| = 1;
my ($plugin) = @ARGV;
require PVE::Storage;
require $plugin;
my $class = 'PVE::Storage::Custom::StowagePlugin';
die "not a plug-in\n" if !$class->isa('PVE::Storage::Plugin');
my $version = $class->api();
die "the version $version is none of this node\n"
    if $version > PVE::Storage::APIVER() || $version < PVE::Storage::APIVER() - PVE::Storage::APIAGE();
$class->register();

my $json = JSON::PP->new->allow_nonref->canonical;
my $cache = {};
while (my $line = <STDIN>) {
    my ($method, @arguments) = @{ $json->decode($line) };
    my $warnings = [];
    local $SIG{__WARN__} = sub { push @$warnings, $_[0]; };
    my @given = map {
        if (ref($_) eq 'HASH' && $_->{cache}) { $cache }
        elsif (ref($_) eq 'HASH' && $_->{file}) { open(my $fh, $_->{mode}, $_->{file}) or die "$_->{file}: $!"; binmode $fh; $fh }
        else { $_ }
    } @arguments;
    my $is_scalar = $method =~ s/^scalar://;
    my $answer = eval {
        if ($is_scalar) { my $value = $class->$method(@given); { scalar => $value } }
        else { my @values = $class->$method(@given); { answer => \@values } }
    } // { error => "$@" };
    $answer->{warnings} = $warnings if @$warnings;
    print $json->encode($answer), "\n";
}
