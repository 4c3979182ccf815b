#!/bin/sh
# dunlin image provision
#
# The first boot of a card: installs the agent, hands it its token, and takes
# the token and every secret off the boot partition. What it did is in
# dunlin-first-boot.log beside it. Where something failed it can be run again:
#
#   sudo sh /boot/firmware/dunlin-first-boot.sh

root=${DUNLIN_ROOT:-}
here=$(cd "$(dirname "$0")" && pwd) || exit 1
failed=

say() { echo "dunlin: $*"; }

# wipe overwrites a file with zeros and removes it. A card may keep a copy that
# nobody can address; a claim is worthless once it was used.
wipe() {
	[ -f "$1" ] || return 0
	bytes=$(wc -c <"$1")
	if [ "$bytes" -gt 0 ]; then
		dd if=/dev/zero of="$1" bs="$bytes" count=1 conv=notrunc,fsync 2>/dev/null
	fi
	rm -f "$1"
}

# given says whether a file was put there, and not taken back later.
given() { [ -s "$1" ] && ! grep -q '^# dunlin image provision: nothing' "$1"; }

install_agent() {
	if given "$here/dunlin-agent.deb"; then
		dpkg --install "$here/dunlin-agent.deb"
	elif given "$here/dunlin-agent"; then
		# FAT has no modes, and may be mounted noexec.
		mkdir -p "$root/var/tmp" &&
			cp "$here/dunlin-agent" "$root/var/tmp/dunlin-agent" &&
			chmod 755 "$root/var/tmp/dunlin-agent" &&
			"$root/var/tmp/dunlin-agent" install
		status=$?
		rm -f "$root/var/tmp/dunlin-agent"
		if [ $status -ne 0 ] && [ -x "$root/usr/local/bin/dunlin-agent" ] && [ -s "$root/etc/systemd/system/dunlin-agent.service" ]; then
			say "the agent is installed, and does not run yet: it is started at the next boot"
			status=0
		fi
		return $status
	elif [ -x "$root/usr/bin/dunlin-agent" ] || [ -x "$root/usr/local/bin/dunlin-agent" ]; then
		say "the agent is installed already"
	else
		say "there is no agent on the boot partition"
		return 1
	fi
}

# hand_over moves a file to where the agent reads it.
hand_over() { # FROM TO MODE OWNER
	given "$1" || return 0
	mkdir -p "$(dirname "$2")" || return 1
	(umask 077 && cat "$1" >"$2.new") &&
		chmod "$3" "$2.new" &&
		chown "$4" "$2.new" &&
		mv "$2.new" "$2" &&
		sync
}

# Everything is read before the first line of it runs: the script removes
# itself.
{
	exec >>"$here/dunlin-first-boot.log" 2>&1
	say "first boot, $(date -u +%Y-%m-%dT%H:%M:%SZ) by a clock that may not be set"
	install_agent || failed=install
	[ "$failed" ] || hand_over "$here/dunlin-agent.toml" "$root/etc/dunlin/agent.toml" 644 root:root || failed=configuration
	[ "$failed" ] || hand_over "$here/dunlin-token" "$root/var/lib/dunlin/token" 600 dunlin:dunlin || failed=token
	if [ "$failed" ]; then
		say "failed: $failed; nothing is removed, so that it can be tried again"
	else
		systemctl enable dunlin-agent
		# The package may have started it before it had its token, or not at all.
		systemctl --no-block restart dunlin-agent
		wipe "$here/dunlin-token"
		for f in user-data network-config; do
			if grep -q '^# dunlin image provision: whole' "$here/$f" 2>/dev/null; then
				wipe "$here/$f"
				[ "$f" = network-config ] ||
					printf '#cloud-config\n# dunlin image provision: applied at the first boot, and removed\n' >"$here/$f"
			fi
		done
		rm -f "$here/dunlin-agent.deb" "$here/dunlin-agent" "$here/dunlin-agent.toml" "$here/dunlin-first-boot.sh"
		say "done"
	fi
	sync
	[ -z "$failed" ]
	exit
}
