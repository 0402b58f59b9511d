package hns

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"time"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
)

// plugin runs the plugins of CNI. It is the library's way of doing that but for
// the end of the context: then the plugin and its children are killed, and
// nobody waits for what they hold open.
type plugin struct{ *invoke.DefaultExec }

func newPlugin() plugin { return plugin{&invoke.DefaultExec{RawExec: &invoke.RawExec{}}} }

const (
	pluginOutput   = 1 << 20 // that is read of a plugin
	pluginPatience = time.Second
)

// ExecPlugin implements [invoke.Exec].
func (plugin) ExecPlugin(ctx context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	var stdout, stderr limited
	c := exec.CommandContext(ctx, path)
	c.Env, c.Stdin, c.Stdout, c.Stderr = environ, bytes.NewReader(stdin), &stdout, &stderr
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	c.WaitDelay = pluginPatience
	err := c.Run()
	if stdout.more {
		err = errors.Join(err, fmt.Errorf("it printed more than %d bytes", pluginOutput))
	}
	if err == nil {
		return stdout.Bytes(), nil
	}
	var told types.Error
	if json.Unmarshal(stdout.Bytes(), &told) == nil && told.Msg != "" {
		return nil, &told
	}
	return nil, fmt.Errorf("%w: %.1000s%.1000s", err, stderr.Bytes(), stdout.Bytes())
}

// limited keeps what comes first.
type limited struct {
	bytes.Buffer
	more bool
}

func (l *limited) Write(b []byte) (int, error) {
	room := pluginOutput - l.Len()
	l.more = l.more || len(b) > room
	l.Buffer.Write(b[:min(len(b), room)])
	return len(b), nil
}
