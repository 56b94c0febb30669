package PVE::Storage::Custom::StowagePlugin;

# A pool of a Stowage agent as a storage of Proxmox VE, by the agent's socket on this node. See README.md beside this file.

use strict;
use warnings;

use JSON::PP ();
use URI::Escape qw(uri_escape);

use PVE::Storage::Plugin;
use base qw(PVE::Storage::Plugin);

my $API_VERSION = 12;
my $SOCKET = '/var/lib/stowage-agent/agent.sock';
my $TIMEOUT_S = 600;
my $PAGE = 1000;
my $CHUNK_BYTES = 1 << 20;

# ---- what it is ----

sub api {
    my $node = PVE::Storage::APIVER();
    return $node < $API_VERSION ? $node : $API_VERSION;
}

sub type { return 'stowage'; }

sub plugindata {
    return {
        content => [{ images => 1, rootdir => 1 }, { images => 1 }],
        format => [{ raw => 1, qcow2 => 1, vmdk => 1 }, 'raw'],
        'sensitive-properties' => {},
    };
}

sub properties {
    return {
        'stowage-pool' => {
            description => "Pool of the Stowage agent. Default: the name of the storage.",
            type => 'string',
        },
        'stowage-socket' => {
            description => "Socket of the Stowage agent on the node. Default: $SOCKET.",
            type => 'string',
        },
    };
}

sub options {
    return {
        'stowage-pool' => { optional => 1 },
        'stowage-socket' => { optional => 1 },
        nodes => { optional => 1 },
        shared => { optional => 1 },
        disable => { optional => 1 },
        content => { optional => 1 },
        format => { optional => 1 },
        bwlimit => { optional => 1 },
    };
}

# ---- asking the agent ----

# HTTP::Tiny by a socket of the node.
package PVE::Storage::Custom::StowagePlugin::Handle {
    use HTTP::Tiny;
    use IO::Socket::UNIX;
    our @ISA = ('HTTP::Tiny::Handle');

    sub connect {
        my ($self, $scheme, $host, $port) = @_;
        $self->{fh} = IO::Socket::UNIX->new(Peer => $self->{stowage_socket})
            or die "the Stowage agent does not answer on $self->{stowage_socket}: $!\n";
        binmode $self->{fh};
        @{$self}{qw(scheme host peer port pid tid)} = ($scheme, $host, $host, $port, $$, HTTP::Tiny::Handle::_get_tid());
        return $self;
    }
}

package PVE::Storage::Custom::StowagePlugin::Client {
    our @ISA = ('HTTP::Tiny');

    sub _open_handle {
        my ($self, $request, $scheme, $host, $port, $peer) = @_;
        my $handle = PVE::Storage::Custom::StowagePlugin::Handle->new(timeout => $self->timeout);
        $handle->{stowage_socket} = $self->{stowage_socket};
        return $handle->connect($scheme, $host, $port, $peer);
    }
}

# Sends a request, and dies with the agent's words unless it succeeds. %$more goes to HTTP::Tiny.
my $request = sub {
    my ($scfg, $method, $path, $more) = @_;
    # Of a request that is a stream the agent is waited for as long as it works.
    my $client = PVE::Storage::Custom::StowagePlugin::Client->new(timeout => $TIMEOUT_S, keep_alive => 0);
    $client->{stowage_socket} = $scfg->{'stowage-socket'} // $SOCKET;
    my $answer = $client->request($method, "http://localhost/v1$path", $more // {});
    return $answer if $answer->{success};
    my $problem = eval { JSON::PP::decode_json($answer->{content}) };
    die "$problem->{detail} [$problem->{code}]\n" if ref($problem) eq 'HASH' && $problem->{detail};
    # 599 is HTTP::Tiny's own, with its reason as content.
    my $reason = $answer->{content} || "$answer->{status} $answer->{reason}";
    chomp $reason;
    die "$reason\n";
};

my $ask = sub {
    my ($scfg, $method, $path, $body) = @_;
    my $more = { headers => { 'stowage-allow-used' => 'proxmox' } };
    if (defined($body)) {
        $more->{headers}->{'content-type'} = 'application/json';
        $more->{content} = JSON::PP::encode_json($body);
    }
    my $answer = $request->($scfg, $method, $path, $more);
    return JSON::PP::decode_json($answer->{content});
};

my $pool_path = sub {
    my ($scfg, $storeid) = @_;
    return '/pools/' . uri_escape($scfg->{'stowage-pool'} // $storeid);
};

# What the pool calls a volume: the last part of its name here.
my $name_of = sub {
    my ($volname) = @_;
    return (split(m!/!, $volname))[-1];
};

my $volume_path = sub {
    my ($scfg, $storeid, $volname) = @_;
    return $pool_path->($scfg, $storeid) . '/volumes/' . uri_escape($name_of->($volname));
};

my $volume = sub {
    my ($scfg, $storeid, $volname) = @_;
    return $ask->($scfg, 'GET', $volume_path->($scfg, $storeid, $volname));
};

# All volumes of the pool. %$cache is of one call of Proxmox VE.
my $volumes = sub {
    my ($scfg, $storeid, $cache) = @_;
    return $cache->{stowage}->{$storeid} if $cache && $cache->{stowage}->{$storeid};
    my ($all, $after) = ([], '');
    while (1) {
        my $page = $ask->($scfg, 'GET', $pool_path->($scfg, $storeid) . "/volumes?limit=$PAGE$after");
        push @$all, @$page;
        last if @$page < $PAGE;
        $after = '&after=' . uri_escape($page->[-1]->{name});
    }
    $cache->{stowage}->{$storeid} = $all if $cache;
    return $all;
};

my $int = sub { return int($_[0]); };

# ---- names ----

my $FORMAT = qr/raw|qcow2|vmdk/;
my $NAME = qr/(?:(?:vm|base)-\d+-[^\s\/]+|subvol-\d+-[^\s\/]+)/;

sub parse_volname {
    my ($class, $volname) = @_;
    my ($base, $name) = $volname =~ m!^(?:($NAME)/)?($NAME)$! or die "unable to parse stowage volume name '$volname'\n";
    my ($kind, $vmid) = $name =~ m/^(vm|base|subvol)-(\d+)-/;
    my ($basevmid) = defined($base) ? $base =~ m/^base-(\d+)-/ : ();
    die "unable to parse stowage volume name '$volname'\n" if defined($base) && !defined($basevmid);
    my $format = $name =~ m/\.($FORMAT)$/ ? $1 : $kind eq 'subvol' ? 'subvol' : 'raw';
    return ('images', $name, $vmid, $base, $basevmid, $kind eq 'base', $format);
}

sub find_free_diskname {
    my ($class, $storeid, $scfg, $vmid, $fmt, $add_fmt_suffix) = @_;
    my $query = '/free-disk?vmid=' . uri_escape($vmid) . '&format=' . uri_escape($fmt // 'raw');
    return $ask->($scfg, 'GET', $pool_path->($scfg, $storeid) . $query)->{name};
}

sub filesystem_path {
    my ($class, $scfg, $volname, $snapname, $storeid) = @_;
    die "a snapshot of a volume has no path\n" if defined($snapname);
    my ($vtype, undef, $vmid) = $class->parse_volname($volname);
    my $found = $volume->($scfg, $storeid, $volname);
    die "volumes of the pool are reached by the network: use the storage type that Proxmox VE has for it\n"
        if $found->{path} !~ m!^/!;
    return wantarray ? ($found->{path}, $vmid, $vtype) : $found->{path};
}

sub path {
    my ($class, $scfg, $volname, $storeid, $snapname) = @_;
    return $class->filesystem_path($scfg, $volname, $snapname, $storeid);
}

# ---- the storage ----

sub status {
    my ($class, $storeid, $scfg, $cache) = @_;
    my $pool = $ask->($scfg, 'GET', $pool_path->($scfg, $storeid));
    return if $pool->{state} ne 'running';
    return (map({ $int->($_) } @{$pool}{qw(capacityBytes availableBytes allocationBytes)}), 1);
}

sub activate_storage {
    my ($class, $storeid, $scfg, $cache) = @_;
    my $path = $pool_path->($scfg, $storeid);
    my $pool = $ask->($scfg, 'GET', $path);
    $pool = $ask->($scfg, 'POST', "$path/start") if $pool->{state} eq 'inactive';
    die "pool '$pool->{name}' is $pool->{state}" . ($pool->{reason} ? ": $pool->{reason}" : '') . "\n"
        if $pool->{state} ne 'running';
    return 1;
}

# Others of the host may use the pool.
sub deactivate_storage { return 1; }

sub check_connection {
    my ($class, $storeid, $scfg) = @_;
    my $is_running = eval { $ask->($scfg, 'GET', $pool_path->($scfg, $storeid))->{state} eq 'running' };
    warn $@ if $@;
    return $is_running ? 1 : 0;
}

sub get_identity {
    my ($class, $scfg, $storeid) = @_;
    return $ask->($scfg, 'GET', $pool_path->($scfg, $storeid))->{storageId};
}

sub activate_volume {
    my ($class, $storeid, $scfg, $volname, $snapname, $cache) = @_;
    my $path = $class->path($scfg, $volname, $storeid, $snapname);
    die "volume '$volname' is not at $path\n" if !-e $path;
    return 1;
}

sub deactivate_volume { return 1; }

# ---- images ----

my $is_asked_for = sub {
    my ($image, $vmid, $vollist) = @_;
    return grep({ $_ eq $image->{volid} } @$vollist) if $vollist;
    return !defined($vmid) || $image->{vmid} == $vmid;
};

sub list_images {
    my ($class, $storeid, $scfg, $vmid, $vollist, $cache) = @_;
    my $all = $volumes->($scfg, $storeid, $cache);
    my %name_of_id = map { $_->{id} => $_->{name} } @$all;
    my $images = [];
    for my $found (@$all) {
        my (undef, undef, $owner, undef, undef, undef, $format) = eval { $class->parse_volname($found->{name}) };
        next if !defined($owner);
        my $parent = defined($found->{parentId}) ? $name_of_id{ $found->{parentId} } : undef;
        my $born = $found->{timestamps}->{btime} // $found->{timestamps}->{ctime};
        my $image = {
            volid => "$storeid:" . (defined($parent) ? "$parent/" : '') . $found->{name},
            format => $format,
            size => $int->($found->{capacityBytes}),
            used => $int->($found->{allocationBytes}),
            vmid => $owner,
            parent => $parent,
        };
        $image->{ctime} = $int->($born) if defined($born);
        push @$images, $image if $is_asked_for->($image, $vmid, $vollist);
    }
    return $images;
}

sub volume_size_info {
    my ($class, $scfg, $storeid, $volname, $timeout) = @_;
    my $found = $volume->($scfg, $storeid, $volname);
    my $size = $int->($found->{capacityBytes});
    return $size if !wantarray;
    my (undef, undef, undef, $base, undef, undef, $format) = $class->parse_volname($volname);
    my $born = $found->{timestamps}->{btime} // $found->{timestamps}->{ctime};
    return ($size, $format, $int->($found->{allocationBytes}), $base, defined($born) ? $int->($born) : undef);
}

sub alloc_image {
    my ($class, $storeid, $scfg, $vmid, $fmt, $name, $size_kib) = @_;
    die "unsupported format '$fmt'\n" if $fmt !~ m/^(?:$FORMAT)$/;
    $name //= $class->find_free_diskname($storeid, $scfg, $vmid, $fmt, 1);
    my (undef, undef, $owner, undef, undef, undef, $format) = $class->parse_volname($name);
    die "illegal name '$name' - should be 'vm-$vmid-*'\n" if $owner != $vmid || $format ne $fmt;
    my $wanted = { name => $name, format => $fmt, capacityBytes => $size_kib * 1024 };
    return $ask->($scfg, 'POST', $pool_path->($scfg, $storeid) . '/volumes', $wanted)->{name};
}

sub free_image {
    my ($class, $storeid, $scfg, $volname, $isBase, $format) = @_;
    $ask->($scfg, 'DELETE', $volume_path->($scfg, $storeid, $volname) . '?deleteSnapshots=true');
    return undef;
}

my $set_base = sub {
    my ($scfg, $storeid, $name, $is_base) = @_;
    my $wanted = { isBase => $is_base ? JSON::PP::true : JSON::PP::false };
    $ask->($scfg, 'PUT', $volume_path->($scfg, $storeid, $name) . '/base', $wanted);
};

my $rename = sub {
    my ($scfg, $storeid, $name, $target) = @_;
    return $ask->($scfg, 'POST', $volume_path->($scfg, $storeid, $name) . '/rename', { name => $target })->{name};
};

sub create_base {
    my ($class, $storeid, $scfg, $volname) = @_;
    my (undef, $name, undef, $base, undef, $isBase) = $class->parse_volname($volname);
    die "create_base not possible with base image\n" if $isBase;
    my $target = $name =~ s/^vm-/base-/r;
    die "create_base not possible with '$volname'\n" if $target eq $name;
    # Ended between the two, it is done again from the start: the first may be repeated.
    $set_base->($scfg, $storeid, $name, 1);
    eval { $rename->($scfg, $storeid, $name, $target) };
    if (my $error = $@) {
        eval { $set_base->($scfg, $storeid, $name, 0) };
        warn $@ if $@;
        die $error;
    }
    return defined($base) ? "$base/$target" : $target;
}

sub clone_image {
    my ($class, $scfg, $storeid, $volname, $vmid, $snap) = @_;
    my (undef, $name, undef, undef, undef, $isBase) = $class->parse_volname($volname);
    die "clone_image works only with base images and snapshots\n" if !$isBase && !defined($snap);
    my $type = $ask->($scfg, 'GET', $pool_path->($scfg, $storeid))->{type};
    # A clone in a file is an overlay, but on btrfs, which shares blocks.
    my $fmt = $name !~ m/\.($FORMAT)$/ ? 'raw' : $type eq 'btrfs' ? $1 : 'qcow2';
    my $target = $class->find_free_diskname($storeid, $scfg, $vmid, $fmt, 1);
    my $wanted = { name => $target, linked => JSON::PP::true, defined($snap) ? (snapshot => $snap) : () };
    $ask->($scfg, 'POST', $volume_path->($scfg, $storeid, $name) . '/clone', $wanted);
    return defined($snap) ? $target : "$name/$target";
}

sub rename_volume {
    my ($class, $scfg, $storeid, $source_volname, $target_vmid, $target_volname) = @_;
    my (undef, $name, undef, $base, undef, $isBase, $format) = $class->parse_volname($source_volname);
    $target_volname //= $class->find_free_diskname($storeid, $scfg, $target_vmid, $format, 1);
    $target_volname =~ s/^vm-/base-/ if $isBase;
    my $target = $rename->($scfg, $storeid, $name, $target_volname);
    return "$storeid:" . (defined($base) ? "$base/" : '') . $target;
}

sub volume_resize {
    my ($class, $scfg, $storeid, $volname, $size, $running) = @_;
    # An image in a file is grown by who has it open.
    return 1 if $running && !-b $class->path($scfg, $volname, $storeid);
    $ask->($scfg, 'POST', $volume_path->($scfg, $storeid, $volname) . '/resize', { capacityBytes => $int->($size) });
    return 1;
}

# ---- snapshots ----

sub volume_snapshot {
    my ($class, $scfg, $storeid, $volname, $snap) = @_;
    $ask->($scfg, 'POST', $volume_path->($scfg, $storeid, $volname) . '/snapshots', { id => $snap });
    return 1;
}

sub volume_snapshot_delete {
    my ($class, $scfg, $storeid, $volname, $snap, $running) = @_;
    $ask->($scfg, 'DELETE', $volume_path->($scfg, $storeid, $volname) . '/snapshots/' . uri_escape($snap));
    return 1;
}

sub rename_snapshot {
    my ($class, $scfg, $storeid, $volname, $source, $target) = @_;
    die "'$target' is a reserved name\n" if $target eq 'current';
    my $snapshot = $volume_path->($scfg, $storeid, $volname) . '/snapshots/' . uri_escape($source);
    $ask->($scfg, 'PATCH', $snapshot, { id => $target });
    return;
}

sub volume_snapshot_rollback {
    my ($class, $scfg, $storeid, $volname, $snap) = @_;
    $ask->($scfg, 'POST', $volume_path->($scfg, $storeid, $volname) . '/snapshots/' . uri_escape($snap) . '/switch');
    return 1;
}

sub volume_snapshot_info {
    my ($class, $scfg, $storeid, $volname) = @_;
    my $found = $ask->($scfg, 'GET', $volume_path->($scfg, $storeid, $volname) . '/snapshots');
    return { map { $_->{id} => { id => $_->{id} } } @$found };
}

sub volume_rollback_is_possible {
    my ($class, $scfg, $storeid, $volname, $snap, $blockers) = @_;
    my $found = $ask->($scfg, 'GET', $volume_path->($scfg, $storeid, $volname) . '/snapshots');
    die "volume '$volname' has no snapshot '$snap'\n" if !grep { $_->{id} eq $snap } @$found;
    return 1;
}

# ---- what can be done ----

# Of a feature of Proxmox VE in a state of the volume: which of the pool's features it needs, in which state.
my %NEEDS = (
    snapshot => { current => { snapshot => 'current' } },
    clone => { base => { link => 'base' }, snap => { link => 'snapshot' } },
    template => { current => { base => 'current' } },
    copy => { current => {}, base => {} },
    sparseinit => { current => {}, base => {} },
    rename => { current => { rename => 'current' } },
);

sub volume_has_feature {
    my ($class, $scfg, $feature, $storeid, $volname, $snapname, $running, $opts) = @_;
    my (undef, undef, undef, undef, undef, $isBase, $format) = $class->parse_volname($volname);
    my $state = defined($snapname) ? 'snap' : $isBase ? 'base' : 'current';
    my $needs = $NEEDS{$feature}->{$state} or return undef;
    my $can = $ask->($scfg, 'GET', $pool_path->($scfg, $storeid) . '/traits');
    for my $need (keys %$needs) {
        return undef if !grep { $_ eq $needs->{$need} } @{ $can->{features}->{$need} // [] };
    }
    return undef if $feature eq 'snapshot' && $format ne 'qcow2' && !$can->{rawSnapshots};
    return 1;
}

sub get_volume_attribute {
    my ($class, $scfg, $storeid, $volname, $attribute) = @_;
    return undef if $attribute ne 'notes' && $attribute ne 'protected';
    my $found = $volume->($scfg, $storeid, $volname);
    return $attribute eq 'notes' ? $found->{notes} : $found->{isProtected} ? 1 : 0;
}

sub update_volume_attribute {
    my ($class, $scfg, $storeid, $volname, $attribute, $value) = @_;
    my $wanted =
        $attribute eq 'notes' ? { notes => $value // '' }
        : $attribute eq 'protected' ? { isProtected => $value ? JSON::PP::true : JSON::PP::false }
        : die "attribute '$attribute' is not supported for storage type '" . $class->type() . "'\n";
    $ask->($scfg, 'PATCH', $volume_path->($scfg, $storeid, $volname) . '/attributes', $wanted);
    return;
}

# ---- streams ----

# In which the storage of the pool itself writes and reads its volumes, with their snapshots: zfs, btrfs.
my $streams_of_storage = sub {
    my ($class, $scfg, $storeid, $volname, $snapshot) = @_;
    my $format = ($class->parse_volname($volname))[6];
    return if !defined($snapshot) || $format ne 'raw';
    return @{ $ask->($scfg, 'GET', $pool_path->($scfg, $storeid) . '/traits')->{streams} // [] };
};

sub volume_export_formats {
    my ($class, $scfg, $storeid, $volname, $snapshot, $base_snapshot, $with_snapshots) = @_;
    my @formats = $streams_of_storage->($class, $scfg, $storeid, $volname, $snapshot);
    return grep { $_ eq 'zfs' } @formats if defined($base_snapshot);
    push @formats, 'raw+size' if !$with_snapshots;
    return @formats;
}

sub volume_import_formats {
    my ($class, $scfg, $storeid, $volname, $snapshot, $base_snapshot, $with_snapshots) = @_;
    my @formats = $streams_of_storage->($class, $scfg, $storeid, $volname, $snapshot);
    return grep { $_ eq 'zfs' } @formats if defined($base_snapshot);
    return @formats if defined($snapshot) || $with_snapshots;
    return ('raw+size');
}

my $write_all = sub {
    my ($fh, $bytes) = @_;
    for (my $done = 0; $done < length($bytes);) {
        my $count = syswrite($fh, $bytes, length($bytes) - $done, $done) // die "writing the stream: $!\n";
        $done += $count;
    }
};

sub volume_export {
    my ($class, $scfg, $storeid, $fh, $volname, $format, $snapshot, $base_snapshot, $with_snapshots) = @_;
    die "volume export format $format not available for $class\n"
        if !grep { $_ eq $format }
        $class->volume_export_formats($scfg, $storeid, $volname, $snapshot, $base_snapshot, $with_snapshots);
    my ($path, $size, $sent, $first) = ($volume_path->($scfg, $storeid, $volname), undef, 0);
    my $has_size = $format eq 'raw+size';
    $path .= $has_size ? '/data?as=content' : "/stream?format=$format&older=" . ($with_snapshots ? 'true' : 'false');
    $path .= '&snapshot=' . uri_escape($snapshot) if defined($snapshot);
    $path .= '&base=' . uri_escape($base_snapshot) if defined($base_snapshot);
    $request->(
        $scfg, 'GET', $path,
        {
            data_callback => sub {
                my ($bytes, $answer) = @_;
                # HTTP::Tiny asks again after a cut, from the start.
                $first //= $answer;
                die "the connection to the agent was cut\n" if $answer != $first;
                if ($has_size && !defined($size)) {
                    $size = $answer->{headers}->{'content-length'};
                    $write_all->($fh, pack('Q<', $size));
                }
                $sent += length($bytes);
                $write_all->($fh, $bytes);
            },
        },
    );
    die "$sent of " . ($size // 0) . " bytes came from the agent\n" if $has_size && (!defined($size) || $sent != $size);
    return;
}

my $read_all = sub {
    my ($fh, $length) = @_;
    my $bytes = '';
    while (length($bytes) < $length) {
        my $count = sysread($fh, $bytes, $length - length($bytes), length($bytes)) // die "reading the stream: $!\n";
        last if $count == 0;
    }
    return $bytes;
};

# Makes a volume of a stream of the storage itself, or brings one up to date that is what it was at a snapshot.
my $receive = sub {
    my ($scfg, $storeid, $fh, $name, $format, $snapshot, $base_snapshot) = @_;
    my $next = sub { return $read_all->($fh, $CHUNK_BYTES) };
    my $path = $volume_path->($scfg, $storeid, $name) . "/stream?format=$format&snapshot=" . uri_escape($snapshot);
    $path .= '&base=' . uri_escape($base_snapshot) if defined($base_snapshot);
    $request->($scfg, 'PUT', $path, { headers => { 'content-type' => 'application/octet-stream' }, content => $next });
    return $name;
};

sub volume_import {
    my (
        $class, $scfg, $storeid, $fh, $volname, $format, $snapshot, $base_snapshot, $with_snapshots, $allow_rename
    ) = @_;
    die "volume import format $format not available for $class\n"
        if !grep { $_ eq $format }
        $class->volume_import_formats($scfg, $storeid, $volname, $snapshot, $base_snapshot, $with_snapshots);
    my (undef, $name, $vmid, undef, undef, undef, $container) = $class->parse_volname($volname);
    my $there = eval { $volume->($scfg, $storeid, $name) };
    die $@ if $@ && $@ !~ m/\[volume-not-found\]$/;
    if (defined($base_snapshot)) {
        die "volume $storeid:$volname does not exist\n" if !$there;
    } elsif ($there) {
        die "volume $storeid:$volname already exists\n" if !$allow_rename;
        warn "volume $storeid:$volname already exists - importing with a different name\n";
        $name = $class->find_free_diskname($storeid, $scfg, $vmid, $container, 1);
    }
    return "$storeid:" . $receive->($scfg, $storeid, $fh, $name, $format, $snapshot, $base_snapshot) if $format ne 'raw+size';
    my $header = $read_all->($fh, 8);
    die "import: no size found in export header, aborting.\n" if length($header) != 8;
    my $size = unpack('Q<', $header);
    open(my $random, '<', '/proc/sys/kernel/random/uuid') or die "no random number: $!\n";
    chomp(my $id = <$random>);
    my $transfer = {
        id => $id,
        pool => $scfg->{'stowage-pool'} // $storeid,
        volume => $name,
        format => $container,
        representation => 'content',
        parts => [{ name => '', sizeBytes => $int->($size), dense => JSON::PP::false }],
    };
    $ask->($scfg, 'POST', '/transfers', $transfer);
    eval {
        my $left = $size;
        my $next = sub {
            return '' if $left == 0;
            my $bytes = $read_all->($fh, $left < $CHUNK_BYTES ? $left : $CHUNK_BYTES);
            die "the stream ends $left bytes before its end\n" if $bytes eq '';
            $left -= length($bytes);
            return $bytes;
        };
        my $headers = { 'content-type' => 'application/octet-stream', 'content-length' => $size };
        $request->($scfg, 'PUT', "/transfers/$id/bytes?offset=0", { headers => $headers, content => $next });
        $ask->($scfg, 'POST', "/transfers/$id/commit", {});
    };
    if (my $error = $@) {
        eval { $ask->($scfg, 'DELETE', "/transfers/$id") };
        die $error;
    }
    return "$storeid:$name";
}

1;
