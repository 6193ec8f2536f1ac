#!/usr/bin/env perl
# Judges DKIM signatures by Mail::DKIM: prints, for each FILE that holds a message with one signature, its verdict on a line:
# pass, fail, invalid, temperror, none. Debian 12's version knows RSA only; others it calls invalid.
#
# Usage: dkim_judge.pl FILE...        (keys are asked of the system's resolver)
use strict;
use warnings;
use Mail::DKIM::Verifier;

for my $file (@ARGV) {
    open(my $message, '<:raw', $file) or die "$file: $!\n";
    my $judge = Mail::DKIM::Verifier->new();
    $judge->load($message);
    $judge->CLOSE() if $judge->can('CLOSE');
    print $judge->result, "\n";
}
