#!/bin/sh
# openssh-script.sh SSH_CONFIG ID EVENTS AGENT BOOT_S REMOTE PROMPT_FILE: what people write first: six ssh commands in a row.
set -eu
config=$1 id=$2 events=$3 agent=$4 boot_s=$5 remote=$6 prompt=$7
# sshd begins in the account's folder, which is not a local worker's home.
# shellcheck disable=SC2016 # the worker expands it
cd='cd "$HOME" &&'
on() { ssh -F "$config" worker "$@"; }
bytes=$(wc -c <"$prompt")

on 'tmux -u has-session -t =kite-dev'
on "$cd git clone --quiet $remote $id"
on "$cd cd $id && git checkout --quiet -b work"
on "tmux -u new-window -d -t =kite-dev: -n $id '$agent $events $id $bytes $boot_s'"
on "until grep -qs '^ready $id' $events; do sleep 0.01; done; tmux -u load-buffer -b $id - \\; paste-buffer -b $id -d -r -t =kite-dev:$id" <"$prompt"
on "until grep -s '^held $id' $events; do sleep 0.01; done"
