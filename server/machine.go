package server

import (
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/httpapi"
	"quorate.dev/quorate/leader"
	"quorate.dev/quorate/member"
	"quorate.dev/quorate/mvcc"
	"quorate.dev/quorate/state"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/watch"
	"quorate.dev/quorate/wire"
)

// machine is the state machine as node drives it. It forwards what a batch caused to whoever waits for it, after the
// batch is visible and before its results are answered.
type machine struct {
	state    *state.Machine
	hub      *watch.Hub
	v2       v2Feed
	duties   *leader.Duty
	compacts *compactions
	counts   *counts
	peers    *peers
	clients  *identities
	slow     time.Duration // batches that take longer are logged
	logger   *zap.Logger

	version string          // of the cluster, as last logged
	changes []leader.Change // memory of the running call
}

// Applied implements node.Machine.
func (m *machine) Applied() storage.Mark { return m.state.Applied() }

// Apply implements node.Machine.
func (m *machine) Apply(cmds []command.Command, results []command.Result) error {
	start := time.Now()
	effects, err := m.state.Apply(cmds, results)
	if err != nil {
		return err
	}
	m.clients.apply(m.state.View(), effects.Auth, m.hub)
	m.hub.Publish(effects.Events)
	m.v2.publish(m.state.View().V2, effects.V2)
	m.duties.Apply(m.leaseChanges(effects.Leases))
	m.noteMembers(effects.Changes)
	if effects.Members {
		m.noteVersion()
	}
	if h := m.peers.host.Load(); h != nil && (effects.Alarms || len(effects.Changes) > 0) {
		m.peers.fence(h, false)
	}
	if effects.Compacted != nil {
		m.compacts.begun(effects.Compacted)
		m.counts.compactedAt.Store(start.Unix())
	}
	took := time.Since(start)
	m.counts.batch(cmds, results, effects.Events, took)
	m.counts.leases(effects.Leases)
	if took > m.slow {
		m.logger.Warn("apply request took too long", zap.Duration("took", took), zap.Duration("expected-duration", m.slow),
			zap.Int("commands", len(cmds)), zap.String("first", cmds[0].Kind.String()))
	}
	return nil
}

// noteVersion logs that the cluster agreed on another version.
func (m *machine) noteVersion() {
	switch v := m.state.View().Members.Version(); {
	case v == m.version:
	case m.version == "":
		m.version = v
		m.logger.Info("set initial cluster version", zap.String("cluster-version", v))
		m.noteCapabilities(v)
	default:
		from := m.version
		m.version = v
		m.logger.Info("cluster version is updated", zap.String("from", from), zap.String("cluster-version", v))
		m.noteCapabilities(v)
	}
}

// noteCapabilities logs what follows from a cluster version.
func (m *machine) noteCapabilities(version string) {
	m.logger.Info("enabled capabilities for version", zap.String("cluster-version", version))
	m.logger.Info("updated storage version", zap.String("new-storage-version", version))
}

// noteMembers logs who joined, and has messages exchanged with the members that there are now.
func (m *machine) noteMembers(changes []member.Change) {
	for _, c := range changes {
		m.peers.follow(c)
		if c.Kind == member.Added {
			m.logger.Info("added member", zap.Stringer("added-peer-id", c.Member.ID), zap.Strings("added-peer-peer-urls", c.Member.PeerURLs), zap.Bool("is-learner", c.Member.IsLearner))
		}
	}
}

// leaseChanges turns what happened to leases into what the duties keep deadlines by.
func (m *machine) leaseChanges(changes []state.LeaseChange) []leader.Change {
	m.changes = m.changes[:0]
	for _, c := range changes {
		change := leader.Change{ID: c.ID, TTL: c.TTL, Remaining: c.Remaining}
		switch c.Kind {
		case state.Granted:
			change.Kind = leader.Granted
		case state.Revoked:
			change.Kind = leader.Revoked
		case state.Checkpointed:
			change.Kind = leader.Checkpointed
		}
		m.changes = append(m.changes, change)
	}
	return m.changes
}

// Background implements node.Machine.
func (m *machine) Background(max int) (bool, error) {
	more, err := m.state.Background(max)
	m.clients.view.Store(m.state.View())
	if err == nil && !more {
		m.compacts.scrubbed(m.state.View().Compacted())
	}
	return more, err
}

// counts are what monitoring shows of applied commands. One goroutine adds, scrapes read.
type counts struct {
	metrics *httpapi.Metrics
	apply   [][2]*httpapi.Histogram // by command.Kind, then failure and success

	puts, deletes, txns, putBytes atomic.Uint64
	granted, revoked, logBytes    atomic.Uint64
	compactedAt                   atomic.Int64
	promotions                    promotions
}

func newCounts(m *httpapi.Metrics) *counts {
	c := &counts{metrics: m}
	for _, row := range command.Table() {
		c.apply = append(c.apply, m.Apply.Find(row.Name))
	}
	return c
}

// operationNames are the commands as the op label shows them.
func operationNames() []string {
	var names []string
	for _, row := range command.Table() {
		names = append(names, row.Name)
	}
	return names
}

// batch counts one applied batch. The time of a command is its share of the batch's.
func (c *counts) batch(cmds []command.Command, results []command.Result, events []*mvcc.EventBatch, took time.Duration) {
	share := took / time.Duration(len(cmds))
	for i := range cmds {
		success := 0
		if results[i].Err == nil {
			success = 1
		}
		c.apply[cmds[i].Kind][success].Observe(share)
	}
	var puts, deletes, txns, bytes uint64
	for _, b := range events {
		if len(b.Events) > 1 {
			txns++
		}
		for i := range b.Events {
			if b.Events[i].Type == wire.EventDelete {
				deletes++
				continue
			}
			puts++
			bytes += uint64(len(b.Events[i].KV))
		}
	}
	c.puts.Add(puts)
	c.deletes.Add(deletes)
	c.txns.Add(txns)
	c.putBytes.Add(bytes)
}

func (c *counts) leases(changes []state.LeaseChange) {
	for _, change := range changes {
		switch change.Kind {
		case state.Granted:
			c.granted.Add(1)
			c.metrics.TTL.Observe(time.Duration(change.TTL) * time.Second)
		case state.Revoked:
			c.revoked.Add(1)
		}
	}
}
