//go:build linux

package guest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/guest/boot"
	"github.com/byrevm/byre/internal/guest/cgroup"
	"github.com/byrevm/byre/internal/guest/clock"
	"github.com/byrevm/byre/internal/guest/logs"
	"github.com/byrevm/byre/internal/guest/modules"
	"github.com/byrevm/byre/internal/guest/reaper"
	"github.com/byrevm/byre/internal/place"
	"github.com/byrevm/byre/internal/vsock"
)

// bridgePort is the host's port of the bridge.
const bridgePort uint32 = 0x40000000

// How long, and how often, a lost bridge is dialed again before the agent
// gives up, and the machine with it.
const (
	redialFor   = 30 * time.Second
	redialEvery = 100 * time.Millisecond
)

// settings are the agent's command line.
type settings struct {
	level     slog.Level
	text      bool
	file      string
	kernelLog int
	reserve   uint64
	noClock   bool
	stdio     bool
	only9P    bool
}

func parse(args []string) (settings, error) {
	s := settings{level: slog.LevelWarn}
	fs := flag.NewFlagSet("gcs", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Func("loglevel", "`level` of the log", func(v string) (err error) {
		s.level, err = logs.Level(v)
		return err
	})
	fs.Func("log-format", "`format` of the log: text or json", func(v string) error {
		if v != "text" && v != "json" {
			return fmt.Errorf("no log format %q", v)
		}
		s.text = v == "text"
		return nil
	})
	fs.StringVar(&s.file, "logfile", "", "`file` for the log in place of stderr")
	fs.IntVar(&s.kernelLog, "kmsgLogLevel", 4, "highest `level` of kernel messages that are logged")
	fs.Uint64Var(&s.reserve, "root-mem-reserve-bytes", 75<<20, "memory that containers cannot have")
	fs.BoolVar(&s.noClock, "disable-time-sync", false, "do not keep the host's time")
	fs.BoolVar(&s.stdio, "use-inouterr", false, "serve the bridge on stdin and stdout")
	fs.BoolVar(&s.only9P, "share-9p", false, "mount the host's folders by 9P, without the machine's virtio-fs device")
	fs.Bool("v4", true, "protocol version 4, the only one")
	fs.Uint64("gcs-mem-limit-bytes", 0, "of no effect: the agent's memory is what containers cannot have")
	if err := fs.Parse(args); err != nil {
		return s, err
	}
	if fs.NArg() > 0 {
		return s, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	return s, nil
}

// Standalone returns the environment of an agent that another init started.
func Standalone() (*boot.Env, error) {
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE) // see boot.Init
	l, err := modules.Open(modules.IndexPath)
	if err != nil {
		return nil, err
	}
	if err := l.Known("/proc/modules"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	// Before the mounts are copied: those of the other init would keep what
	// is unmounted here.
	if err := cgroup.Unify(); err != nil {
		return nil, err
	}
	attached, err := boot.RootAttached("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	if !attached {
		if err := boot.AttachRoot(); err != nil {
			return nil, err
		}
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, os.NewSyscallError("PR_SET_CHILD_SUBREAPER", err)
	}
	r := reaper.New()
	if err := r.ProtectSelf(); err != nil {
		return nil, err
	}
	ready := func() error { return nil }
	return &boot.Env{Reaper: r, Modules: l, Devices: ready, Ready: ready}, nil
}

// Main runs the agent until the host is lost for good; see [boot.Main].
func Main(env *boot.Env, args []string) int {
	s, err := parse(args)
	out := os.Stderr
	if err == nil && s.file != "" {
		out, err = os.OpenFile(s.file, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gcs:", err)
		return 2
	}
	crashOutput()
	w := logs.NewWriter(out)
	log := logs.New(w, s.level, s.text)
	slog.SetDefault(log)
	for _, err := range env.Log {
		log.Warn("boot went on without", "err", err)
	}
	log.Info("agent started", "uptime", boot.Uptime().Round(time.Millisecond).String(), "places", place.Marker)

	err = serve(context.Background(), env, s, log)
	logs.Fatal(log, "agent ended", "err", err)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	w.Close(ctx)
	if env.First {
		boot.DrainStdio(ctx)
	}
	return 1
}

// crashOutput has the runtime write a crash to the console too: what is
// written to the host's log is under way when the machine stops.
func crashOutput() {
	if f, err := os.OpenFile("/dev/console", os.O_WRONLY|unix.O_NOCTTY, 0); err == nil {
		debug.SetCrashOutput(f, debug.CrashOptions{})
		f.Close()
	}
}

// serve connects to the host and serves it, again when the connection is
// lost. It returns why it gave up.
func serve(ctx context.Context, env *boot.Env, s settings, log *slog.Logger) error {
	dial := func(ctx context.Context, port uint32) (*vsock.Conn, error) {
		return vsock.Dial(ctx, vsock.CIDHost, port)
	}
	var conn net.Conn
	var err error
	if s.stdio {
		conn = stdioConn{}
	} else if conn, err = dial(ctx, bridgePort); err != nil {
		return err
	}
	a := newAgent(config{
		env: env, log: log, reserve: s.reserve, only9P: s.only9P,
		dial: func(ctx context.Context, port uint32) (streamConn, error) { return dial(ctx, port) },
	})
	go a.whenReady()
	if s.kernelLog > 0 {
		go forwardKernelLog(log, s.kernelLog)
	}
	if !s.noClock {
		keeper := clock.New(func(ctx context.Context) (net.Conn, error) { return dial(ctx, clock.Port) }, log)
		go func() {
			log.Info("clock is not kept", "err", keeper.Run(ctx, nil))
		}()
	}
	for {
		err := a.server.Serve(ctx, conn)
		log.Warn("bridge was lost", "err", err)
		if s.stdio {
			return fmt.Errorf("the host has ended the bridge: %w", err)
		}
		ctx, cancel := context.WithTimeout(ctx, redialFor)
		conn, err = redial(ctx, dial)
		cancel()
		if err != nil {
			return fmt.Errorf("the host does not answer any more: %w", err)
		}
	}
}

// redial waits for a host that may come back.
func redial(ctx context.Context, dial func(context.Context, uint32) (*vsock.Conn, error)) (net.Conn, error) {
	tick := time.NewTicker(redialEvery)
	defer tick.Stop()
	for {
		c, err := dial(ctx, bridgePort)
		if err == nil {
			return c, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, err
		}
	}
}

// stdioConn is the bridge on the standard streams.
type stdioConn struct{}

func (stdioConn) Read(b []byte) (int, error)         { return os.Stdin.Read(b) }
func (stdioConn) Write(b []byte) (int, error)        { return os.Stdout.Write(b) }
func (stdioConn) Close() error                       { return os.Stdin.Close() }
func (stdioConn) LocalAddr() net.Addr                { return vsock.Addr{} }
func (stdioConn) RemoteAddr() net.Addr               { return vsock.Addr{} }
func (stdioConn) SetDeadline(t time.Time) error      { return nil }
func (stdioConn) SetReadDeadline(t time.Time) error  { return nil }
func (stdioConn) SetWriteDeadline(t time.Time) error { return nil }
