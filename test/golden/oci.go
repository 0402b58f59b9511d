package golden

import (
	"context"
	"encoding/json"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/byrevm/byre/container"
)

// createOCI builds a container from a specification, and starts and ends it.
func (r *replay) createOCI(ctx context.Context, s Step) error {
	b, err := json.Marshal(r.allHere(parse(r.t, s.Args["spec"])))
	if err != nil {
		r.t.Fatal(err)
	}
	spec := new(specs.Spec)
	if err := json.Unmarshal(b, spec); err != nil {
		r.t.Fatal(err)
	}
	if ns := arg[string](r, s, "netns"); ns != "" {
		if spec.Windows.Network == nil {
			spec.Windows.Network = new(specs.WindowsNetwork)
		}
		spec.Windows.Network.NetworkNamespace = ns
	}
	id := arg[string](r, s, "id")
	c, err := container.Create(ctx, r.vm, container.Config{ID: id, Spec: spec, Network: network{}})
	if err != nil {
		return err
	}
	r.containers[id] = c
	if r.rec.Windows() {
		err = c.Shutdown(ctx)
	} else {
		err = c.Terminate(ctx)
	}
	if err != nil {
		return err
	}
	return c.Wait()
}

// releaseOCI takes away what is left of the containers.
func (r *replay) releaseOCI(ctx context.Context) error {
	for id, c := range r.containers {
		if err := c.Delete(ctx); err != nil {
			return err
		}
		delete(r.containers, id)
	}
	return nil
}
