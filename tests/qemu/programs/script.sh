#!/bin/sh -e
# Pipes, redirections, substitutions, background jobs, loops: what scripts of images do.
cd /tmp
echo one two three | tr ' ' '\n' | sort -r > words
test "$(cat words | wc -l)" = 3
test "$(head -1 words)" = two
for i in 1 2 3 4 5; do echo "$i" >> numbers; done
test "$(awk '{ s += $1 } END { print s }' numbers)" = 15
(sleep 0.05; echo late > late) &
wait
test "$(cat late)" = late
mkdir -p a/b/c && touch a/b/c/file && test "$(find a | wc -l)" = 4
tar cf a.tar a && rm -r a && tar xf a.tar && test -f a/b/c/file
ln -s words link && test "$(readlink link)" = words && cmp words link
if false; then exit 1; fi
trap 'echo trapped > trap' USR1
kill -USR1 $$
test "$(cat trap)" = trapped
test -r /proc/self/maps && grep -q MemTotal /proc/meminfo
test "$(cat /proc/self/comm)" = cat
echo "script done"
exit 9
