package uvm

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/internal/engine"
)

// Windows builds from which on an engine has an ability (spec §1.3, §1.11).
const (
	buildKernelDirect = 18286
	buildColdDiscard  = 18967
)

// NewDefaultOptionsLCOW returns options that boot a Linux guest, if boot
// files are where the host's engine looks for them. An empty id is replaced
// by a GUID when the VM is created; an empty owner is the name of this
// program.
func NewDefaultOptionsLCOW(id, owner string) *OptionsLCOW {
	host := engine.Host().Host()
	o := &OptionsLCOW{
		Options:             defaultOptions(host, id, owner),
		BootFilesPath:       firstFolder(host.BootFiles),
		KernelFile:          KernelFile,
		KernelDirect:        host.Build >= buildKernelDirect,
		RootFSFile:          InitrdFile,
		SCSIControllerCount: 1,
		UseGuestConnection:  true,
		ExecCommandLine:     "/bin/gcs -v4 -log-format json -loglevel " + guestLogLevel(slog.Default()),
		ForwardStderr:       true,
		VPMemDeviceCount:    DefaultVPMEMCount,
		VPMemSizeBytes:      DefaultVPMemSizeBytes,
		PreferredRootFSType: PreferredRootFSTypeInitRd,
	}
	o.ExternalGuestConnection = true
	if o.KernelDirect && exists(filepath.Join(o.BootFilesPath, UncompressedKernelFile)) {
		o.KernelFile = UncompressedKernelFile
	}
	if exists(filepath.Join(o.BootFilesPath, VhdFile)) {
		o.RootFSFile = VhdFile
		o.PreferredRootFSType = PreferredRootFSTypeVHD
	}
	return o
}

// NewDefaultOptionsWCOW returns options for a Windows guest. The caller must
// set LayerFolders. An empty id is replaced by a GUID when the VM is created;
// an empty owner is the name of this program. ExternalGuestConnection is set
// only where the host's engine cannot have the connection itself.
func NewDefaultOptionsWCOW(id, owner string) *OptionsWCOW {
	host := engine.Host().Host()
	o := &OptionsWCOW{Options: defaultOptions(host, id, owner)}
	o.ExternalGuestConnection = !host.InternalConnection
	return o
}

func defaultOptions(host hcs.HostInfo, id, owner string) *Options {
	if owner == "" {
		owner = filepath.Base(os.Args[0])
	}
	return &Options{
		ID:              id,
		Owner:           owner,
		MemorySizeInMB:  1024,
		AllowOvercommit: true,
		ProcessorCount:  int32(min(2, max(1, host.Processors))),
	}
}

// firstFolder returns the first of paths that exists, else the last.
func firstFolder(paths []string) string {
	for _, p := range paths {
		if exists(p) {
			return p
		}
	}
	if len(paths) == 0 {
		return ""
	}
	return paths[len(paths)-1]
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// guestLogLevel names the lowest level that l logs, in the agent's words.
func guestLogLevel(l *slog.Logger) string {
	for _, x := range []struct {
		level slog.Level
		name  string
	}{
		{slog.LevelDebug - 1, "trace"},
		{slog.LevelDebug, "debug"},
		{slog.LevelInfo, "info"},
		{slog.LevelWarn, "warning"},
		{slog.LevelError, "error"},
	} {
		if l.Enabled(context.Background(), x.level) {
			return x.name
		}
	}
	return "fatal"
}
