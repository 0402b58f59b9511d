// Command agent stands in for the guest agent in the boot tests: it does what
// docs/guest.md says of the module index and of modules.img, prints what it
// sees, and ends the VM.
package main

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

type module struct {
	file, args string
	soft, deps []string
}

func main() {
	switch {
	case filepath.Base(os.Args[0]) == "modprobe":
		mods, lines := readIndex()
		request := strings.ReplaceAll(os.Args[len(os.Args)-1], "-", "_")
		for _, l := range lines["alias"] {
			if ok, _ := path.Match(l[0], request); ok {
				check("inserting "+l[1], insert(mods, l[1]))
			}
		}
		return
	case os.Getenv("SWITCHED") == "":
		fmt.Println("agent: up as", os.Args[0])
		check("mounting proc", unix.Mount("proc", "/proc", "proc", 0, ""))
		check("mounting sys", unix.Mount("sysfs", "/sys", "sysfs", 0, ""))
		if err := unix.Mount("devtmpfs", "/dev", "devtmpfs", 0, ""); err != nil && err != unix.EBUSY {
			check("mounting dev", err)
		}
	}
	mods, lines := readIndex()
	for _, l := range lines["core"] {
		check("inserting "+l[0], insert(mods, l[0]))
	}
	fmt.Println("agent: core is in")
	if root := option("root="); root != "" && os.Getenv("SWITCHED") == "" {
		switchRoot(root)
	}
	check("naming modprobe", os.WriteFile("/proc/sys/kernel/modprobe", []byte("/bin/modprobe"), 0))
	check("mounting run", unix.Mount("tmpfs", "/run", "tmpfs", 0, ""))
	check("making a folder", os.Mkdir("/run/erofs", 0o755))
	// There is no device, but the file system must have come from a module.
	unix.Mount("/dev/null", "/run/erofs", "erofs", unix.MS_RDONLY, "")
	fs, err := os.ReadFile("/proc/filesystems")
	check("reading file systems", err)
	fmt.Println("agent: erofs on demand:", strings.Contains(string(fs), "\terofs\n"))
	var st unix.Statfs_t
	check("statfs", unix.Statfs("/", &st))
	runc, err := os.ReadFile("/bin/runc")
	check("reading runc", err)
	fmt.Printf("agent: root is %#x, runc has %d bytes\n", st.Type, len(runc))
	unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}

func switchRoot(root string) {
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		hosts, _ := filepath.Glob("/sys/class/scsi_host/host*/scan")
		for _, h := range hosts {
			os.WriteFile(h, []byte("- - -"), 0)
		}
		if _, err := os.Stat(root); err == nil {
			break
		}
	}
	check("making a folder", os.Mkdir("/mnt", 0o755))
	check("mounting "+root, unix.Mount(root, "/mnt", "ext4", unix.MS_RDONLY, ""))
	for _, d := range []string{"/dev", "/proc", "/sys"} {
		check("moving "+d, unix.Mount(d, "/mnt"+d, "", unix.MS_MOVE, ""))
	}
	check("entering", unix.Chdir("/mnt"))
	check("moving the root", unix.Mount(".", "/", "", unix.MS_MOVE, ""))
	check("changing the root", unix.Chroot("."))
	check("starting init", unix.Exec(option("init="), []string{option("init=")}, []string{"SWITCHED=1"}))
}

func readIndex() (map[string]module, map[string][][]string) {
	b, err := os.ReadFile("/lib/modules/modules.byre")
	check("reading the index", err)
	mods, lines := map[string]module{}, map[string][][]string{}
	cpu, err := os.ReadFile("/proc/cpuinfo")
	check("reading the CPU's flags", err)
	for line := range strings.Lines(string(b)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), " ")
		lines[f[0]] = append(lines[f[0]], f[1:])
		if f[0] != "mod" {
			continue
		}
		m := module{file: f[2]}
		for _, kv := range f[3:] {
			switch k, v, _ := strings.Cut(kv, "="); k {
			case "deps":
				m.deps = strings.Split(v, ",")
			case "soft":
				m.soft = strings.Split(v, ",")
			case "args":
				m.args = v
			case "cpu":
				if !strings.Contains(string(cpu), " "+v+" ") {
					m.file = ""
				}
			case "on":
				if v != "virtio" {
					m.file = ""
				}
			}
		}
		mods[f[1]] = m
	}
	return mods, lines
}

func insert(mods map[string]module, name string) error {
	m := mods[name]
	if loaded, err := os.ReadFile("/proc/modules"); err != nil || strings.Contains("\n"+string(loaded), "\n"+name+" ") || m.file == "" {
		return err
	}
	for _, n := range m.soft {
		insert(mods, n)
	}
	for _, n := range m.deps {
		if err := insert(mods, n); err != nil {
			return err
		}
	}
	f, err := os.Open(m.file)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), m.args, 0)
}

// option is the value of a word of the kernel's command line.
func option(name string) string {
	b, err := os.ReadFile("/proc/cmdline")
	check("reading the command line", err)
	for _, w := range strings.Fields(string(b)) {
		if v, ok := strings.CutPrefix(w, name); ok {
			return v
		}
	}
	return ""
}

func check(what string, err error) {
	if err != nil {
		fmt.Printf("agent: %s: %v\n", what, err)
	}
}
