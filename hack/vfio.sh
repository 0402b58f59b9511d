#!/bin/sh
# usage: hack/vfio.sh PROGRAM BOOTFILES KERNELPACKAGE
#
# Runs PROGRAM, which is hack/vfio, in an outer VM that has an IOMMU, and to spare
# a NIC of two functions and a disk that can have virtual functions. The outer VM's root is this machine's, read-only; QEMU, the program
# and the boot files are used from there. Both VMs are emulated, one in the
# other, so it takes minutes.
set -eu

[ $# = 3 ] || { echo "usage: $0 PROGRAM BOOTFILES KERNELPACKAGE" >&2; exit 2; }
program=$(realpath "$1") boot=$(realpath "$2") package=$(realpath "$3")
nic=0000:01:00.0 disk=0000:02:00.0
modules="virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci
	netfs fscache 9pnet 9p 9pnet_virtio failover net_failover virtio_net
	crct10dif_common crct10dif_generic crc-t10dif crc64 crc64-rocksoft
	crc64_rocksoft_generic t10-pi nvme-core nvme
	irqbypass vfio_virqfd vfio vfio_iommu_type1 vfio-pci-core vfio-pci"

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir -p "$tmp/package" "$tmp/root/modules" "$tmp/root/new"
patterns=
for m in $modules; do patterns="$patterns */$m.ko"; done
set -f
dpkg-deb --fsys-tarfile "$package" | tar -C "$tmp/package" -x --wildcards $patterns
set +f
find "$tmp/package" -name '*.ko' -exec mv {} "$tmp/root/modules/" \;
cp /bin/busybox "$tmp/root/busybox"

cat >"$tmp/root/init" <<END
#!/busybox sh
/busybox mkdir -p /proc /sys /dev
/busybox mount -t proc proc /proc
/busybox mount -t sysfs sys /sys
/busybox mount -t devtmpfs dev /dev
for m in $(echo $modules); do /busybox insmod /modules/\$m.ko; done
/busybox mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=loose,ro root /new || exec /busybox poweroff -f
for d in proc sys dev; do /busybox mount --move /\$d /new/\$d; done
/busybox mount -t tmpfs run /new/run
/busybox mount -t tmpfs shm /new/dev/shm 2>/dev/null
cd /new
exec /busybox chroot /new /bin/sh -c 'export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/run TMPDIR=/run BYRE_ACCEL=tcg; $program $nic $disk $boot; echo o >/proc/sysrq-trigger; sleep 100'
END
chmod +x "$tmp/root/init"
(cd "$tmp/root" && find . | /bin/busybox cpio -o -H newc 2>/dev/null) >"$tmp/initrd"

timeout 1500 qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot -serial stdio \
	-machine q35 -accel tcg,thread=multi -cpu qemu64,+cx16,+lahf-lm,+popcnt,+sse3,+ssse3,+sse4.1,+sse4.2,+rdrand \
	-smp 2 -m 2048 -device intel-iommu,intremap=on \
	-kernel "$boot/vmlinux" -initrd "$tmp/initrd" \
	-append "console=ttyS0 quiet panic=-1 no_timer_check intel_iommu=on rdinit=/init" \
	-device pcie-root-port,id=nic,bus=pcie.0,addr=0x10,chassis=1 \
	-device virtio-net-pci,bus=nic,addr=0.0,multifunction=on,disable-legacy=on,iommu_platform=on,romfile= \
	-device virtio-net-pci,bus=nic,addr=0.1,disable-legacy=on,iommu_platform=on,romfile= \
	-device pcie-root-port,id=disk,bus=pcie.0,addr=0x11,chassis=2 \
	-device nvme-subsys,id=disks \
	-device nvme,serial=spare,subsys=disks,bus=disk,max_ioqpairs=6,msix_qsize=5,sriov_max_vfs=2,sriov_vq_flexible=4,sriov_vi_flexible=2 \
	-fsdev local,id=root,path=/,security_model=none,readonly=on,multidevs=remap \
	-device virtio-9p-pci,fsdev=root,mount_tag=root </dev/null | tee "$tmp/out"
grep -q '^PASS' "$tmp/out"
