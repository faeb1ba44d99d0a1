package k8s

import (
	"context"
	"fmt"
)

// Verified is what the store holds in the end, beside what was acknowledged.
type Verified struct {
	Pods   int64    `json:"pods"`
	Nodes  int64    `json:"nodes"`
	Leases int64    `json:"leases"`
	Events int64    `json:"events"`
	Faults []string `json:"faults"`
}

// verify lists all keys and holds their revisions against those that were acknowledged.
func (d *driver) verify(ctx context.Context) (*Verified, error) {
	v := &Verified{Faults: []string{}}
	fault := func(format string, args ...any) {
		if len(v.Faults) < errorTexts {
			v.Faults = append(v.Faults, fmt.Sprintf(format, args...))
		}
	}
	check := func(kind resource, n, mod, known int64) {
		if known != 0 && mod < known {
			fault("%s number %d has revision %d, but a write of revision %d was acknowledged", resourceNames[kind], n, mod, known)
		}
	}
	each := [active]func(n, mod int64){
		pods: func(n, mod int64) {
			if v.Pods++; n < d.pods.head || n >= d.pods.tail {
				fault("pod number %d is there, but was deleted", n)
				return
			}
			check(pods, n, mod, d.pods.at(n).rev)
		},
		nodes: func(n, mod int64) {
			if v.Nodes++; n >= 0 && n < int64(len(d.nodes)) {
				check(nodes, n, mod, d.nodes[n].status)
			}
		},
		leases: func(n, mod int64) {
			if v.Leases++; n >= 0 && n < int64(len(d.nodes)) {
				check(leases, n, mod, d.nodes[n].lease)
			}
		},
		events: func(int64, int64) { v.Events++ },
	}
	var failed error
	for kind := range active {
		l := d.wholeOf(kind, func(_ *listing, err error) { failed = err })
		l.keysOnly = true
		l.each = func(key []byte, mod int64) { each[kind](number(key), mod) }
		d.startList(revisions, 0, d.now(), l)
		if err := d.loop(ctx); err != nil {
			return nil, err
		}
		if failed != nil {
			return nil, fmt.Errorf("listing %s in the end: %w", resourceNames[kind], failed)
		}
	}
	if live := d.pods.live(); v.Pods != live {
		fault("there are %d pods, and %d were acknowledged", v.Pods, live)
	}
	if n := int64(len(d.nodes)); v.Nodes != n || v.Leases != n {
		fault("there are %d Nodes and %d Leases, and %d of each were acknowledged", v.Nodes, v.Leases, n)
	}
	if unknown := d.acks[events].unknown; v.Events < d.serial-unknown && d.o.Times.EventTTL >= DurationMax {
		fault("there are %d Events, and %d were acknowledged", v.Events, d.serial-unknown)
	}
	return v, nil
}
