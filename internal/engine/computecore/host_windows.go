package computecore

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"
)

func hostService() Service { return dll{} }

// hostBuild asks the kernel: what other calls say depends on the manifest of
// the program.
func hostBuild() int { return int(windows.RtlGetVersion().BuildNumber) }

// hostProcessors counts those of all processor groups.
func hostProcessors() int {
	return int(windows.GetActiveProcessorCount(windows.ALL_PROCESSOR_GROUPS))
}

// bootFolders are the folders where boot files are looked for.
func bootFolders() []string {
	var dirs []string
	if d := os.Getenv("BYRE_BOOT_FILES"); d != "" {
		dirs = append(dirs, d)
	}
	if exe, err := os.Executable(); err == nil {
		dirs = append(dirs, filepath.Join(filepath.Dir(exe), "LinuxBootFiles"))
	}
	if d := os.Getenv("ProgramFiles"); d != "" {
		dirs = append(dirs, filepath.Join(d, "Linux Containers"))
	}
	return dirs
}
