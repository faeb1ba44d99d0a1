package server

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"go.etcd.io/etcd/api/v3/membershippb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/config"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/grpcapi"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/leader"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/mvcc"
	"quorate.dev/quorate/node"
	"quorate.dev/quorate/state"
	"quorate.dev/quorate/wal"
	"quorate.dev/quorate/watch"
	"quorate.dev/quorate/wire"
)

// startMember opens the state and starts everything that lives from it: watches, the leader's duties and the raft host.
func (s *Server) startMember(context.Context) (err error) {
	c := &s.core
	c.machine, err = state.Open(c.engine, state.Config{
		Member: c.identity.member, Cluster: c.identity.cluster, LeaseTTLMin: s.leaseTTLMin(), MaxLearners: int(s.cfg.Cluster.MaxLearners),
	})
	if err != nil {
		return err
	}
	c.compacts = &compactions{log: new(grpcapi.CompactionLog), logger: s.logger}
	s.onStop("compaction hashes", func(context.Context) error { c.compacts.Close(); return nil })
	c.hub = watch.New(watch.Config{
		View:             func() *mvcc.View { return c.machine.View().View },
		Header:           s.header,
		FragmentBytes:    s.messageBytes(),
		ProgressInterval: s.cfg.RPC.WatchProgress,
	})
	s.onStop("watches", func(context.Context) error { c.hub.Close(); return nil })
	s.openV2()
	if err := s.openIdentities(); err != nil {
		return err
	}
	if err := s.makeDuties(); err != nil {
		return err
	}
	if err := s.makePeers(); err != nil {
		return err
	}
	if err := s.startHost(); err != nil {
		return err
	}
	s.startInsights()
	c.duties.Start()
	s.onStop("leader's duties", func(context.Context) error { c.duties.Stop(); return nil })
	return nil
}

// leaseTTLMin is the shortest lease granted, seconds.
func (s *Server) leaseTTLMin() int64 { return leader.MinTTL(s.cfg.ElectionTicks(), s.cfg.Heartbeat()) }

// header is what every response says of this member. Watches may ask for it before the raft host is there: a host that starts
// applies what is left of the log at once.
func (s *Server) header() wire.Header {
	id := s.core.identity
	head := wire.Header{ClusterID: uint64(id.cluster), MemberID: uint64(id.member)}
	if h := s.core.peers.host.Load(); h != nil {
		head.RaftTerm = uint64(h.Status().Term)
	}
	return head
}

// messageBytes is the largest message accepted, and the size from which watch responses are split.
func (s *Server) messageBytes() int {
	return int(s.cfg.Store.MaxRequestBytes) + limits.RequestOverheadBytes
}

// raft is how this member elects and what it keeps for others.
func (s *Server) raft() node.Raft {
	r := &s.cfg.Raft
	return node.Raft{PreVote: r.PreVote, Advance: r.TickAdvance, CatchUp: int(min(r.CatchUp, math.MaxInt32)), Slack: int(min(r.SnapshotCount, math.MaxInt32))}
}

func (s *Server) startHost() (err error) {
	c := &s.core
	s.logger.Info("starting local member", zap.Stringer("local-member-id", c.identity.member), zap.Stringer("cluster-id", c.identity.cluster))
	s.logger.Info("starting etcd server", zap.Stringer("local-member-id", c.identity.member), zap.String("local-server-version", config.EtcdVersion),
		zap.String("cluster-version", c.machine.View().Members.Version()))
	if len(c.machine.View().Members.Members()) <= 1 {
		s.logger.Info("started as single-node; fast-forwarding election ticks", zap.Stringer("local-member-id", c.identity.member), zap.Int("election-ticks", s.cfg.ElectionTicks()))
	}
	c.host, err = node.Start(node.Config{
		Member: c.identity.member, Log: c.log, HardState: c.past.hard, Entries: c.past.entries, ConfState: c.machine.ConfState(),
		Machine: &machine{state: c.machine, hub: c.hub, v2: v2Feed{s.v2.hub, c.machine.View().V2}, duties: c.duties, compacts: c.compacts, counts: c.counts, slow: s.cfg.RPC.WarnApply, logger: s.logger, version: c.machine.View().Members.Version(), peers: c.peers, clients: c.clients},
		Engine:  c.engine, Transport: c.peers, Snapshots: &snapshots{c.peers},
		Timing: node.Timing{Tick: s.cfg.Heartbeat(), ElectionTicks: s.cfg.ElectionTicks()},
		Raft:   s.raft(), MaxRequestBytes: int(s.cfg.Store.MaxRequestBytes), Logger: s.logger,
		Observer: node.Observer{
			LeaderChanged: s.followLeadership(),
			LeaderReady:   func(term ids.Term) { c.duties.Promote(term, c.machine.View().Leases.All()) },
			Answer:        c.answer,
			BatchApplied:  func(_ int, took time.Duration) { c.metrics.Commit.Observe(took) },
		},
	})
	if err != nil {
		return err
	}
	c.peers.begin(c.host, c.past.others)
	c.past = history{}
	s.onStop("raft host", c.host.Stop)
	go func() {
		<-c.host.Done()
		if err := c.host.Err(); err != nil {
			s.fail(err)
		}
	}()
	return nil
}

// answer has the answers to a batch written once per connection, not once per answer.
func (c *core) answer(deliver func()) {
	calls := c.calls.Load()
	if calls == nil {
		deliver()
		return
	}
	calls.Hold()
	deliver()
	calls.Release()
}

// followLeadership tells the duties when this member's leadership is over, by the term that it led: a candidate's first
// report already has the term that it may lead next.
func (s *Server) followLeadership() func(node.Leadership) {
	var led ids.Term // 0: this member does not lead; the loop goroutine's own
	logger := s.logger.Named("raft")
	return func(l node.Leadership) {
		if l.Leader != 0 {
			logger.Info(fmt.Sprintf("raft.node: %s elected leader %s at term %d", s.core.identity.member, l.Leader, l.Term))
		}
		switch {
		case l.Self:
			led = l.Term
		case led != 0:
			s.core.duties.Demote(led)
			led = 0
		}
	}
}

// observeLog counts one group written to the log.
func (s *Server) observeLog(g wal.Group) {
	s.core.metrics.Write.Observe(g.Write)
	s.core.metrics.Fsync.Observe(g.Sync)
	s.core.counts.logBytes.Add(uint64(g.Bytes))
}

// answer waits for the result of one command.
type answer chan error

// Complete implements command.Waiter.
func (a answer) Complete(r *command.Result) { a <- r.Err }

// announce records this member's name and client addresses in the cluster, which also proves that the cluster works: the
// member is ready when the record is applied.
func (s *Server) announce(ctx context.Context) error {
	body, err := proto.Marshal(&membershippb.ClusterMemberAttrSetRequest{
		Member_ID: uint64(s.core.identity.member),
		MemberAttributes: &membershippb.Attributes{
			Name: s.cfg.Member.Name, ClientUrls: config.URLStrings(s.cfg.Cluster.AdvertiseClient),
		},
	})
	if err != nil {
		return fmt.Errorf("encode the attributes of this member: %w", err)
	}
	for {
		done := make(answer, 1)
		s.core.host.Propose(command.MemberAttributes, body, done)
		select {
		case err = <-done:
		case <-s.ending:
			return s.err
		case <-ctx.Done():
			return ctx.Err()
		}
		switch {
		case err == nil:
			s.logger.Info("published local member to cluster through raft", zap.Stringer("local-member-id", s.core.identity.member),
				zap.String("name", s.cfg.Member.Name), zap.Strings("client-urls", config.URLStrings(s.cfg.Cluster.AdvertiseClient)),
				zap.Stringer("cluster-id", s.core.identity.cluster))
			return nil
		case errors.Is(err, fault.Stopped):
			return err
		}
		s.logger.Warn("failed to publish local member to cluster through raft; trying again", zap.Error(err))
	}
}
