package load

import (
	"context"
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Kind describes a workload to people.
type Kind struct {
	Name    string
	Summary string // one line
	Detail  string // what is sent, what is measured
	Example string // command lines

	make   func(*run) workload
	adjust func(*Options) // before defaults are filled in
}

// kinds are all workloads, in the order of help texts.
var kinds = slices.Concat(kvKinds, txnKinds, listKinds, streamKinds, watchKinds, leaseKinds)

// Kinds are the workloads.
func Kinds() []Kind { return append([]Kind(nil), kinds...) }

func find(name string) (*Kind, error) {
	var names []string
	for i := range kinds {
		if kinds[i].Name == name {
			return &kinds[i], nil
		}
		names = append(names, kinds[i].Name)
	}
	return nil, fmt.Errorf("there is no workload %q; there are %s", name, strings.Join(names, ", "))
}

func tlsOrDefault(c *tls.Config) *tls.Config {
	if c == nil {
		return &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return c
}

// plain is the part of a workload that most leave empty.
type plain struct{}

func (plain) setUp(context.Context, *run) error           { return nil }
func (plain) finish(context.Context, *run, *Result) error { return nil }

// once makes a run load every key exactly once, in order.
func once(o *Options) {
	set(&o.Data.Keys, 10_000)
	o.Data.Sequential = true
	o.Shape.Total, o.Shape.Duration, o.Shape.Warmup = o.Data.Keys, 0, 0*time.Second
}
