# Attaches an extension to a root that has nothing else, and runs a program in it. Runs in a mount
# namespace of its own, which takes everything with it when it ends.
# arguments: the root (empty), the image, the extension's name, the trace, where to keep a copy of
# programs and links, the command that runs the program in the root
set -eu
target=$1 image=$2 name=$3 trace=$4 kept=$5
shift 5

# systemd-sysext works on a root of which mounts are shared, and keeps its state in /run.
mount --make-rshared /
mount -t tmpfs tmpfs /run
# It removes the nodes of loop devices that it has used: those of a /dev of our own.
mkdir "$target/dev"
mount -t tmpfs -o mode=755 tmpfs "$target/dev"
for node in null zero full random urandom tty; do
	: > "$target/dev/$node"
	mount --bind "/dev/$node" "$target/dev/$node"
done
mknod "$target/dev/loop-control" c 10 237
for number in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
	mknod "$target/dev/loop$number" b 7 "$number"
done
mount --rbind "$target/dev" /dev

mkdir -p "$target/etc" "$target/opt" "$target/proc" "$target/run" "$target/tmp" \
	"$target/usr/lib" "$target/var/lib/extensions"
printf 'ID=empty\nVERSION_ID=1\n' > "$target/usr/lib/os-release"
if [ -d "$image" ]; then
	cp -a "$image" "$target/var/lib/extensions/$name"
else
	cp "$image" "$target/var/lib/extensions/$name.raw"
fi

# systemd 252 ends with status 0 also where it attached nothing.
systemd-sysext --root="$target" merge > "$trace.log" 2>&1 || cat "$trace.log" >&2
if ! mountpoint -q "$target/usr" && ! mountpoint -q "$target/opt"; then
	cat "$trace.log" >&2
	echo "systemd-sysext attached nothing" >&2
	exit 125
fi
mount -t proc proc "$target/proc"
status=0
"$@" || status=$?
# Directories, links and programs are looked at afterwards.
for dir in "$target/usr" "$target/opt"; do
	find "$dir" -xdev \( -type d -o -type l -o -type f -perm /111 \) -printf '%P\0' |
		(cd "$dir" && tar --create --null --no-recursion --files-from=-) |
		(mkdir -p "$kept/${dir##*/}" && cd "$kept/${dir##*/}" && tar --extract --no-same-owner)
done
umount "$target/proc"
systemd-sysext --root="$target" unmerge > "$trace.log" 2>&1 || cat "$trace.log" >&2
exit "$status"
