#!/bin/sh
# Run inside the image's last but one stage: takes away what a server does not need. Packages go as
# packages, so that dpkg's list, which scanners and the SBOM read, says what is there.
set -eu

# The user, by number everywhere; 10001 is in no distribution's range of people.
echo 'sluice:x:10001:10001:Sluice:/var/lib/sluice:/usr/sbin/nologin' >> /etc/passwd
echo 'sluice:x:10001:' >> /etc/group
install -d -o 10001 -g 10001 -m 0750 /var/lib/sluice
# For sockets and for what containers hand each other; a volume mounted here is theirs.
install -d -o 10001 -g 10001 -m 0755 /run/sluice

# Nobody installs, logs in or formats a disk in a running container.
gone="apt apt-utils adduser bsdutils debconf debian-archive-keyring e2fsprogs fdisk gpgv hostname
    init-system-helpers iputils-ping libapt-pkg6.0 libdb5.3 libdebconfclient0 libext2fs2 libfdisk1
    libfile-find-rule-perl libgdbm-compat4 libgdbm6 libnumber-compare-perl libpam-modules
    libpam-modules-bin libpam-runtime libpam0g libperl5.36 libseccomp-dev libsemanage-common libsemanage2
    libsepol2 libss2 libtext-glob-perl login logsave mount nano ncurses-base ncurses-bin openssl passwd perl
    perl-base perl-modules-5.36 sysvinit-utils tzdata ucf usr-is-merged usrmerge util-linux
    util-linux-extra"
for package in $gone; do
    [ "$(dpkg-query -W -f='${Status}' "$package" 2> /dev/null)" = "install ok installed" ] || continue
    # Scripts that would run at the removal belong to what is going away as well.
    rm -f "/var/lib/dpkg/info/$package".*rm "/var/lib/dpkg/info/$package:"*.*rm
    dpkg --purge --force-depends --force-remove-essential --force-remove-protected "$package" > /dev/null 2>&1
done

rm -rf /usr/share/doc /usr/share/doc-base /usr/share/man /usr/share/info /usr/share/locale \
    /usr/share/i18n /usr/share/lintian /usr/share/linda /usr/share/bug /usr/share/common-licenses \
    /usr/share/bash-completion /usr/share/zsh /usr/share/perl* /usr/share/debconf /usr/share/pixmaps \
    /usr/share/menu /usr/share/gcc /usr/share/gdb /usr/share/X11/locale /usr/share/zoneinfo \
    /usr/lib/*/perl* /usr/lib/apt /usr/lib/udev /usr/lib/systemd /usr/include \
    /usr/share/fonts/truetype \
    /var/lib/apt /var/cache /var/log /var/backups /var/lib/dpkg/info /var/lib/dpkg/*-old /etc/apt \
    /etc/cron.daily /etc/logrotate.d /etc/pam.d /etc/security /etc/init.d /etc/rc*.d /etc/systemd
install -d -m 0755 /var/cache /var/log

# What makes root of somebody must not be there.
find / -xdev -type f \( -perm -4000 -o -perm -2000 \) -exec chmod a-s {} +
ldconfig
rm -rf /usr/bin/dpkg* /usr/sbin/dpkg* /usr/bin/update-alternatives /var/tmp/* /root/.[!.]* /tmp/*
