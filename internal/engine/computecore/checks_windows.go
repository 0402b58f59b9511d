package computecore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/windows"

	"github.com/byrevm/byre/schema1"
)

// oldestBuild is the first with the documented interface: Windows 10 1809,
// Server 2019.
const oldestBuild = 17763

// A Check is something that the engine needs of the host.
type Check struct {
	Name   string
	OK     bool
	Detail string
	Remedy string
}

// Checks looks at the host. It starts nothing.
func Checks(ctx context.Context) []Check {
	build := Check{Name: "build", Detail: fmt.Sprintf("Windows build %d", hostBuild())}
	if build.OK = hostBuild() >= oldestBuild; !build.OK {
		build.Remedy = fmt.Sprintf("byre needs build %d (Windows 10 1809, Server 2019) or later", oldestBuild)
	}
	return []Check{
		build,
		serviceCheck("compute", "vmcompute", "Enable-WindowsOptionalFeature -Online -FeatureName Containers, Microsoft-Hyper-V"),
		serviceCheck("network", "hns", "Enable-WindowsOptionalFeature -Online -FeatureName Containers"),
		serviceCheck("hyper-v", "vmms", "Enable-WindowsOptionalFeature -Online -FeatureName Microsoft-Hyper-V -All"),
		accessCheck(ctx),
	}
}

// serviceCheck looks for a service that a feature of Windows brings.
func serviceCheck(name, service, remedy string) Check {
	c := Check{Name: name, Detail: "service " + service + " is installed"}
	if err := findService(service); err != nil {
		c.Detail, c.Remedy = fmt.Sprintf("service %s: %v", service, err), remedy
		return c
	}
	c.OK = true
	return c
}

func findService(name string) error {
	m, err := windows.OpenSCManager(nil, nil, windows.SC_MANAGER_CONNECT)
	if err != nil {
		return fmt.Errorf("opening the service manager: %w", err)
	}
	defer windows.CloseServiceHandle(m)
	n, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return err
	}
	s, err := windows.OpenService(m, n, windows.SERVICE_QUERY_STATUS)
	if errors.Is(err, windows.ERROR_ACCESS_DENIED) {
		return nil // it is there
	}
	if err != nil {
		return err
	}
	return windows.CloseServiceHandle(s)
}

// accessCheck asks the service for its systems.
func accessCheck(ctx context.Context) Check {
	c := Check{Name: "access"}
	systems, err := New(Config{}).Systems(ctx, schema1.ComputeSystemQuery{})
	switch {
	case err == nil:
		c.OK, c.Detail = true, fmt.Sprintf("the Host Compute Service answers; it has %d systems", len(systems))
	case errors.Is(err, fs.ErrPermission):
		c.Detail, c.Remedy = err.Error(), "run as a member of Administrators or Hyper-V Administrators, elevated"
	default:
		c.Detail, c.Remedy = err.Error(), "install the features Containers and Microsoft-Hyper-V, and restart"
	}
	return c
}
