#!/bin/sh
# prototype-agent.sh EVENTS ID BYTES BOOT_S: reads a prompt of so many bytes from its terminal and acknowledges it by its hash.
stty raw -echo
sleep "$4"
printf 'ready %s\n' "$2" >>"$1"
hash=$(head -c "$3" | sha256sum)
printf 'held %s %s %s\n' "$2" "$(date +%s%N)" "${hash%% *}" >>"$1"
