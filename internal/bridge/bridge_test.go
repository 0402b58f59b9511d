package bridge

import (
	"context"
	"errors"
	"net"
	"testing"
)

func TestConnect(t *testing.T) {
	s := NewServer(ServerConfig{Capabilities: Capabilities{RuntimeOSType: "Linux"}})
	Handle(s, ModifySettings, func(context.Context, *ModifySettingsRequest) (*Response, error) { return nil, ErrElementNotFound })
	h, g := net.Pipe()
	served := make(chan error, 1)
	go func() { served <- s.Serve(t.Context(), g) }()
	c, err := Connect(t.Context(), h, Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Modify(t.Context(), struct{}{}); !IsNotFound(err) {
		t.Errorf("modify: %v", err)
	}
	if _, err := c.DumpStacks(t.Context()); !IsNotSupported(err) {
		t.Errorf("dump stacks: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	if _, err := c.DumpStacks(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("after close: %v", err)
	}
}
