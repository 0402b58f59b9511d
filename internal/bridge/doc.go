// Package bridge speaks the GCS bridge protocol, version 4: the control
// channel between a host and the agent in its utility VM.
//
// A message is a 16-byte header and a JSON body. The host sends requests
// through a [Client]; the guest answers them with a [Server] and may send a
// notification at any time. Both ends share one set of message types, so that
// a change which breaks the peer does not compile. docs/bridge.md describes
// the protocol.
//
//	c, err := bridge.Connect(ctx, conn, bridge.Config{Listen: listen})
//	ctr, err := c.CreateContainer(ctx, "c1", doc)
//	err = ctr.Start(ctx)
//	p, err := ctr.CreateProcess(ctx, params)
//	err = p.Wait()
//
//	s := bridge.NewServer(bridge.ServerConfig{Capabilities: caps})
//	bridge.Handle(s, bridge.WaitForProcess, wait)
//	err := s.Serve(ctx, conn)
//
// Neither end trusts the other: a message has a maximum size and no more
// memory is taken for it than has arrived, what one request does wrong fails
// that request only, and the number and size of requests that are worked on
// at a time have limits.
package bridge
