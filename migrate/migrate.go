package migrate

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"quorate.dev/quorate/internal/clock"
)

func hex(id uint64) string { return strconv.FormatUint(id, 16) }

// migration is one run.
type migration struct {
	o      Options
	src    *Source
	tree   *replayed
	nodes  *listing
	out    *records
	leases []grant
	now    int64
	report *Report
}

// Run migrates. When it fails, or ctx ends, everything it has written is removed; errors are *RefusedError, *TransformError,
// *ClashError, failures of the disk, and the cause with which ctx ended. The Report is nil then.
func Run(ctx context.Context, o Options) (*Report, error) {
	if o.Clock == nil {
		o.Clock = clock.Real()
	}
	if o.Patience <= 0 {
		o.Patience = DefaultPatience
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	if o.Say == nil {
		o.Say = func(string) {}
	}
	m := &migration{o: o, now: o.Clock.Now().UnixNano(), report: &Report{
		TTL: o.TTL.String(), Transformer: o.Transformer, Destination: o.Target.Kind.String(), Path: o.Target.Path, DryRun: o.Target.Kind == Nowhere,
	}}
	if o.Transformer == "" {
		m.report.Transformer = "default"
		o.Say(sayDefault)
	}
	var err error
	if m.src, err = Open(ctx, o.DataDir, o.LogDir); err != nil {
		return nil, err
	}
	defer m.src.Close()
	if err := m.run(ctx); err != nil {
		return nil, err
	}
	return m.report, nil
}

func (m *migration) run(ctx context.Context) (err error) {
	target, err := m.target()
	if err != nil {
		return err
	}
	if m.tree, err = m.src.replay(ctx, m.o.Progress); err != nil {
		return err
	}
	m.nodes = m.tree.list(m.now)
	m.report.Source, m.report.Read = m.src.report(), m.nodes.report()
	m.report.Source.Entries, m.report.Source.V2Index, m.report.Source.V2Auth = m.tree.entries, m.tree.view.Index(), m.nodes.auth
	m.report.Skipped.Hidden = m.nodes.hidden
	if len(m.nodes.items) <= 1 && m.nodes.files == 0 {
		m.o.Say(sayNone)
		m.report.Destination, m.report.Path = Nowhere.String(), ""
		return nil
	}
	if err := m.transform(ctx); err != nil {
		if ctx.Err() == nil {
			m.o.Say(sayFailed)
		}
		return err
	}
	if err := m.others(ctx); err != nil {
		return err
	}
	if target != nil {
		if err := m.write(ctx, target); err != nil {
			return err
		}
	}
	m.o.Say(sayFinished)
	return nil
}

// transform makes records of the nodes.
func (m *migration) transform(ctx context.Context) error {
	m.out = newRecords(m.o.SkipClash)
	items := make([]item, 0, len(m.nodes.items))
	for _, it := range m.nodes.items {
		if m.o.TTL == Drop && it.Expiration != 0 { // also a directory; what is in it comes nevertheless
			if !it.Dir {
				m.report.Skipped.TTL++
			}
			continue
		}
		items = append(items, it)
	}
	total := int64(len(items))
	m.o.Progress(Progress{Stage: Transforming, Total: total})
	var err error
	if m.o.Transformer == "" {
		err = m.byDefault(ctx, items)
	} else {
		p := &program{path: m.o.Transformer, patience: m.o.Patience, stderr: m.o.Stderr, clock: m.o.Clock,
			told: func(n int64) { m.o.Progress(Progress{Stage: Transforming, Done: n, Total: total}) }}
		err = p.run(ctx, items, m.out.add)
	}
	if err != nil {
		return err
	}
	m.out.sort()
	if m.o.TTL == Lease {
		m.leases = grants(items, m.out, m.now)
	}
	m.report.Skipped.Clashes = m.out.clashes
	w := &m.report.Written
	w.Keys, w.Leases, w.Revision = int64(len(m.out.list)), int64(len(m.leases)), 1
	for _, kv := range m.out.list {
		w.Revision = max(w.Revision, kv.ModRevision)
		if kv.Lease != 0 {
			w.WithTTL++
		}
	}
	return nil
}

func (m *migration) byDefault(ctx context.Context, items []item) error {
	for i, it := range items {
		kv := byDefault(it)
		if kv == nil {
			if it.Key != "/" {
				m.report.Skipped.Directories++
			}
			continue
		}
		if reason := unfit(kv); reason != "" {
			return &TransformError{Program: "default", Err: errors.New(reason)}
		}
		if err := m.out.add(kv); err != nil {
			return &TransformError{Program: "default", Err: err}
		}
		if (i+1)%reportEvery == 0 {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			m.o.Progress(Progress{Stage: Transforming, Done: int64(i + 1), Total: int64(len(items))})
		}
	}
	return nil
}

// ClashError says that keys of the v3 API stand in the way.
type ClashError struct {
	Records int64 // that are not from an earlier migration
	Example string
	Place   string
}

// Error counts the records and names one.
func (e *ClashError) Error() string {
	return fmt.Sprintf("migrate: the source has %d records of the v3 API of its own (%s): %s", e.Records, e.Example, e.Place)
}
