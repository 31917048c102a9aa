#!/bin/sh
# Run inside the image's last but one stage: takes away what a server needs only to be built or read
# about. What dpkg knows of the packages stays, for scanners and for the SBOM.
set -eu

# The user, by number everywhere; 10001 is below no system's range of people.
echo 'sluice:x:10001:10001:Sluice:/var/lib/sluice:/usr/sbin/nologin' >> /etc/passwd
echo 'sluice:x:10001:' >> /etc/group
install -d -o 10001 -g 10001 -m 0750 /var/lib/sluice

# Nobody installs in a running container. Each goes with what only it needs; libraries stay.
for package in apt perl perl-base debconf adduser openssl e2fsprogs logsave mount util-linux-extra \
    gpgv debian-archive-keyring libapt-pkg6.0 login passwd tzdata ucf sensible-utils init-system-helpers \
    sysvinit-utils hostname ncurses-bin bsdutils fdisk; do
    dpkg --purge --force-depends --force-remove-essential --force-remove-protected "$package" \
        > /dev/null 2>&1 || true
done

# The programs that are left: a shell and its company for those who look inside.
rm -rf /usr/share/doc /usr/share/doc-base /usr/share/man /usr/share/info /usr/share/locale \
    /usr/share/i18n /usr/share/lintian /usr/share/linda /usr/share/bug /usr/share/common-licenses \
    /usr/share/bash-completion /usr/share/zsh /usr/share/perl* /usr/share/debconf /usr/share/pixmaps \
    /usr/share/menu /usr/share/gcc /usr/share/gdb /usr/share/X11/locale /usr/share/zoneinfo \
    /usr/lib/*/perl* /usr/lib/*/gconv /usr/lib/*/audit /usr/lib/*/security /usr/lib/apt /usr/lib/udev \
    /usr/lib/systemd /usr/lib/*/libperl* /usr/include /usr/lib/*/libdb-5.3.so \
    /var/lib/apt /var/cache /var/log /var/backups /var/lib/dpkg/info /var/lib/dpkg/*-old /etc/apt \
    /etc/cron.daily /etc/logrotate.d /etc/pam.d /etc/security /etc/init.d /etc/rc*.d /etc/systemd
install -d -m 0755 /var/cache /var/log
# Fonts are for drawing; text is read without them.
rm -rf /usr/share/fonts/truetype

# What makes root of somebody must not be there.
find / -xdev -type f \( -perm -4000 -o -perm -2000 \) -exec chmod a-s {} +
rm -rf /tmp/* /var/tmp/* /root/.[!.]*
rm -f /dpkg-new
ldconfig
