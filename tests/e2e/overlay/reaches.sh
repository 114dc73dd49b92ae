# What the package reaches tries, in the phase $1. The test sets: secret, socket, abstract, port,
# host_namespaces. A line "TRIED PHASE ENVIRONMENT" tells that it did, a line "REACHED PHASE WHAT"
# what came true.
reached() { echo "REACHED ${phase} $*" >&2; }

writes() {
	local place
	for place in \
		"${EPREFIX}" /fprefix/staging/{,.fprefix,broot,broot/usr/local/bin,broot/etc/portage,cache} \
		/fprefix/staging/{etc/portage,etc/portage/gnupg,logs,pkgs,profiles,repos,tmp,tmp/portage} \
		/fprefix/final/{,.fprefix,etc/portage,logs,root,tmp,tmp/portage} \
		/fprefix /fprefix/distfiles /fprefix/repos/test-cases /fprefix/portage \
		/usr/bin /usr/local /etc /home /opt /root /run /var /var/db /; do
		(: > "${place}/reached-${phase}") 2> /dev/null
	done
	(echo "died:${phase} app-misc/forged-1 staging" >> /fprefix/events) 2> /dev/null \
		&& reached "the events of phases"
}

reads() {
	(< "${secret}") 2> /dev/null && reached "a file of a user"
	(< /etc/shadow) 2> /dev/null && reached "passwords"
	(< /fprefix/staging/etc/portage/gnupg/secret) 2> /dev/null && reached "a key for packages"
	(exec 3<> "/dev/tcp/127.0.0.1/${port}") 2> /dev/null && reached "the network"
	local name value
	while read -r name value; do
		if [[ ${name} == CapEff: ]] && ((16#${value} & ~0x8000001b)); then
			reached "capabilities ${value}"
		fi
	done < /proc/self/status
	read -r name < /proc/sys/kernel/hostname
	[[ ${name} == localhost ]] || reached "the name of the machine"
}

# With programs, which global scope cannot run.
programs() {
	connects "${socket}" && reached "a daemon by its file"
	connects "${abstract}" && reached "a daemon by its name"
	python3 -c 'import os, sys; sys.exit(os.getsid(0) == 0)' || reached "the session of the user"
	mount -o remount,rw,bind / 2> /dev/null && reached "mounts"
	mount -t tmpfs none "${T:-/tmp}" 2> /dev/null && reached "new mounts"
	# The mode that it has.
	chmod 666 /dev/full 2> /dev/null && [[ $(stat -c %u /dev/full) == 0 ]] \
		&& reached "a device node of the machine"
	grep -qsa bin/emerge /proc/[0-9]*/cmdline && reached "the process of emerge"
	local namespace
	for namespace in ipc mnt net pid; do
		if [[ ${host_namespaces} == *$(readlink /proc/self/ns/${namespace})* ]]; then
			reached "the machine's namespace ${namespace}"
		fi
	done
	local shown
	for shown in /home /media /mnt /root /srv; do
		[[ -z $(ls -A "${shown}") ]] || reached "${shown}"
	done
}

connects() {
	python3 -c '
import socket, sys
name = sys.argv[1]
socket.socket(socket.AF_UNIX).connect("\0" + name[1:] if name[0] == "@" else name)' "$1" 2> /dev/null
}

reach() {
	local phase=$1 environment=staging
	[[ ${ROOT} != /fprefix/final/* ]] || environment=final
	echo "TRIED ${phase} ${environment}" >&2
	writes
	reads
	[[ ${phase} == depend ]] || programs
	return 0
}
