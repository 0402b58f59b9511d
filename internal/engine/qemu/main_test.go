//go:build linux

package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/byrevm/byre/hcs"
)

// The test binary is also, run by itself, an owner of a system that can be
// killed, a QEMU that fails, and a process that needs a processor.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "spin" {
		fmt.Println("spinning")
		for {
			runtime.Gosched()
		}
	}
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case "own":
			own(os.Args[2], os.Args[3])
			return
		case "fake":
			fakeQEMU(os.Args[2])
			return
		}
	}
	os.Exit(m.Run())
}

// own creates and starts a system of the document on standard input, says the
// process id of its QEMU, and waits to be killed.
func own(run, id string) {
	fail := func(err error) {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	doc, err := io.ReadAll(os.Stdin)
	if err != nil {
		fail(err)
	}
	e := New(Config{Accel: AccelTCG, RunDir: run, Logger: slog.New(slog.DiscardHandler)})
	s, err := e.Create(context.Background(), id, hcs.Document(doc))
	if err != nil {
		fail(err)
	}
	if err := s.Start(context.Background()); err != nil {
		fail(err)
	}
	sys := s.(*system)
	json.NewEncoder(os.Stdout).Encode(owned{QEMU: sys.proc.pid(), Watcher: sys.watcherPID(), Cgroups: sys.cgroups.made})
	select {}
}

type owned struct {
	QEMU, Watcher int
	Cgroups       map[string]string
}

func (s *system) watcherPID() int {
	if s.watcher == nil {
		return 0
	}
	return s.watcher.cmd.Process.Pid
}

// fakeQEMU speaks QMP on its first descriptor up to a point.
func fakeQEMU(until string) {
	conn := os.NewFile(firstFile, "qmp")
	fmt.Fprintln(os.Stderr, "fake: going to fail at", until)
	switch until {
	case "start":
		os.Exit(7)
	case "silence":
		select {}
	case "garbage":
		fmt.Fprintln(conn, "hello")
		select {}
	case "endless":
		for b := make([]byte, 1<<16); ; {
			for i := range b {
				b[i] = 'x'
			}
			if _, err := conn.Write(b); err != nil {
				return
			}
		}
	}
	minor := 2
	if until == "version" {
		minor = 1
	}
	fmt.Fprintf(conn, `{"QMP": {"version": {"qemu": {"micro": 0, "minor": %d, "major": 7}}, "capabilities": []}}`+"\n", minor)
	for s := bufio.NewScanner(conn); s.Scan(); {
		var m struct {
			Execute string
			ID      int
		}
		if err := json.Unmarshal(s.Bytes(), &m); err != nil {
			panic(err)
		}
		if m.Execute == strings.TrimSuffix(until, "!") {
			if strings.HasSuffix(until, "!") {
				fmt.Fprintf(conn, `{"error": {"class": "GenericError", "desc": "fake refuses"}, "id": %d}`+"\n", m.ID)
				continue
			}
			os.Exit(7)
		}
		fmt.Fprintf(conn, `{"return": {"fdset-id": 1, "fd": 9}, "id": %d}`+"\n", m.ID)
	}
}

func jsonDecode(r io.Reader, v any) error {
	b, err := bufio.NewReader(r).ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("%w after %q", err, b)
	}
	return json.Unmarshal(b, v)
}
