#!/bin/sh
# Removes whiteouts from the upper layer of /etc, before the overlay is mounted, where they hide
# what tmpfiles rules would make again: the base's files come through.
# usage: etc-whiteouts LIST UPPER
# LIST has a path of /etc a line; UPPER is the directory of the upper layer.
set -u
list=$1 upper=$2
while IFS= read -r path; do
	case $path in
	/etc/?*) entry=$upper${path#/etc} ;;
	*) continue ;;
	esac
	# A whiteout is a character device with the numbers 0 and 0.
	if [ -c "$entry" ] && [ ! -h "$entry" ] && [ "$(stat -c %t:%T "$entry")" = 0:0 ]; then
		rm -f "$entry"
	fi
done < "$list"
