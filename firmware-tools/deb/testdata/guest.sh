#!/bin/sh
# What docs/INSTALL.md has a person do, on a Debian that systemd started, and
# what must be true then. A line "CHECK name ok" for each; the test reads them.
exec >/dev/console 2>&1
export HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin

check() { # NAME COMMAND...: the command succeeds within three minutes: an emulated machine is slow
  name=$1
  shift
  n=0
  while [ $n -lt 180 ]; do
    if "$@" >/tmp/out 2>&1; then
      echo "CHECK $name ok"
      return
    fi
    n=$((n + 1))
    sleep 1
  done
  echo "CHECK $name failed: $(cat /tmp/out)"
  journalctl --no-pager -n 30 -u dunlin-agent -u dunlin-hub
}
is() { systemctl show -P "$1" dunlin-agent; }
says() { dunlin-agent status | grep -q "$1"; }

dpkg -i /root/dunlin-agent_*.deb /root/dunlin-hub_*.deb
check agent-runs systemctl is-active --quiet dunlin-agent
check hub-runs systemctl is-active --quiet dunlin-hub
check groups grep -q '^SupplementaryGroups=audio dialout render video$' /etc/systemd/system/dunlin-agent.service.d/10-groups.conf
check no-capabilities grep -q '^CapEff:.0000000000000000$' "/proc/$(is MainPID)/status"
check filtered grep -q '^Seccomp:.2$' "/proc/$(is MainPID)/status"

# Another program in the agent's unit reads the state of the clock, and cannot change it.
cat >/usr/local/bin/adjtimex <<'END'
#!/usr/bin/perl
my ($look, $set) = (chr(0) x 256, pack("L", 0x10) . chr(0) x 252);
exit 1 if syscall(159, $look) < 0;
exit 2 if syscall(159, $set) >= 0;
END
chmod 755 /usr/local/bin/adjtimex
sed -e 's|^ExecStart=.*|ExecStart=/usr/local/bin/adjtimex|' -e 's/^Type=.*/Type=oneshot/' -e '/^Restart/d' -e '/^Watchdog/d' -e '/^NotifyAccess/d' \
  "$(is FragmentPath)" >/run/systemd/system/clock.service
systemctl daemon-reload
check clock-can-be-read-not-set systemctl start clock

check token-of-the-hub test -s /var/lib/dunlin-hub/admin.token
DUNLIN_TOKEN=$(cat /var/lib/dunlin-hub/admin.token)
export DUNLIN_TOKEN
dunlin-agent install "$(dunlin fleet enrol line-1 --claim)"
check enrolled says 'line-1, connected'
check claim-is-gone test ! -e /var/lib/dunlin/token

# A program of a source sees the devices that the unit allows, and no others.
cat >>/etc/dunlin/agent.toml <<'END'
[[source]]
name = "look"
kind = "exec"
command = ["sh", "-c", "for d in ttyS1 net/tun; do true </dev/$d && echo $d opens; done >/var/lib/dunlin/seen; echo done >>/var/lib/dunlin/seen; sleep 600"]
END
dunlin-agent check
systemctl restart dunlin-agent
check source-runs grep -q '^done$' /var/lib/dunlin/seen
check serial-port-opens grep -q '^ttyS1 opens$' /var/lib/dunlin/seen
check other-device-is-there test -c /dev/net/tun
check other-device-does-not-open sh -c '! grep -q tun /var/lib/dunlin/seen'

kill -STOP "$(is MainPID)"
check watchdog sh -c '[ "$(systemctl show -P NRestarts dunlin-agent)" -ge 1 ]'
check back-after-the-watchdog says 'line-1, connected'

echo "# mine" >>/etc/dunlin/agent.toml
dpkg -i /root/dunlin-agent_*.deb
check runs-after-an-upgrade systemctl is-active --quiet dunlin-agent
check configuration-is-kept grep -q '^# mine$' /etc/dunlin/agent.toml

dpkg --purge dunlin-agent dunlin-hub
check nothing-runs sh -c '! systemctl is-active --quiet dunlin-agent && ! systemctl is-active --quiet dunlin-hub'
check nothing-is-left sh -c '! ls -d /var/lib/dunlin* /etc/dunlin /etc/systemd/system/dunlin* /etc/systemd/system/*/dunlin* /usr/bin/dunlin* 2>/dev/null'
check nothing-failed sh -c '! systemctl --no-pager --failed | grep dunlin'
echo "CHECK end ok"
systemctl poweroff
