package server

import (
	"context"
	"time"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/config"
	"quorate.dev/quorate/grpcapi"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/leader"
	"quorate.dev/quorate/node"
	"quorate.dev/quorate/state"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wire"
)

// makeDuties makes the leader's duties. They begin their rounds once the raft host exists.
func (s *Server) makeDuties() error {
	compaction, err := s.compaction()
	if err != nil {
		return err
	}
	s.core.duties = leader.New(leader.Config{
		Member: s.core.identity.member, Proposer: proposer{&s.core}, State: dutyState{s.core.machine},
		Election: time.Duration(s.cfg.ElectionTicks()) * s.cfg.Heartbeat(), RequestTimeout: s.cfg.RequestTimeout(),
		Compaction: compaction, Checkpoints: s.cfg.Gates.Enabled("LeaseCheckpoint"), QuotaBytes: s.quota(),
		ClusterVersion: config.ClusterVersion, Logger: s.logger, V2: s.v2Duties(),
	})
	return nil
}

func (s *Server) compaction() (leader.Compaction, error) {
	wanted, err := s.cfg.Compaction()
	if err != nil {
		return leader.Compaction{}, err
	}
	c := leader.Compaction{Period: wanted.Period, Revisions: wanted.Revisions}
	switch {
	case wanted.Period > 0:
		c.Mode = leader.CompactPeriodic
	case wanted.Revisions > 0:
		c.Mode = leader.CompactRevision
	}
	return c, c.Validate()
}

// proposer lets the duties propose through a host that is made after them.
type proposer struct{ core *core }

// ProposeMessage implements leader.Proposer.
func (p proposer) ProposeMessage(kind command.Kind, m leader.Message, w command.Waiter) {
	p.core.host.ProposeMessage(kind, m, w)
}

// ProposeInTerm implements leader.Proposer. That a lease has expired is decided like a client's request.
func (p proposer) ProposeInTerm(term ids.Term, kind command.Kind, m leader.Message, w command.Waiter) {
	user, revision := p.core.machine.View().Steward()
	p.core.host.ProposeInTermAs(term, kind, m, user, revision, w)
}

// dutyState is what the duties look at.
type dutyState struct{ machine *state.Machine }

// Revision implements leader.State.
func (d dutyState) Revision() ids.Revision { return d.machine.View().Revision() }

// RetainedBytes implements leader.State.
func (d dutyState) RetainedBytes() int64 { return d.machine.View().RetainedBytes() }

// Alarms implements leader.State.
func (d dutyState) Alarms() []wire.AlarmMember { return d.machine.View().Alarms }

// ClusterVersion implements leader.State.
func (d dutyState) ClusterVersion() string { return d.machine.View().Members.Version() }

// nodeDoor is the raft host as grpcapi uses it.
type nodeDoor struct{ *node.Host }

// Status implements grpcapi.Node.
func (n nodeDoor) Status() grpcapi.Status {
	st := n.Host.Status()
	return grpcapi.Status{Leader: st.Leader, Term: st.Term, Committed: st.Committed, Applied: st.Applied}
}

// TransferLeadership implements grpcapi.Node.
func (n nodeDoor) TransferLeadership(ctx context.Context, to ids.MemberID) error {
	done := make(chan error, 1)
	n.Host.TransferLeadership(to, func(err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// storeDoor is the state machine as grpcapi reads it.
type storeDoor struct {
	*state.Machine
	clients *identities
	engine  *storage.Engine
}

// View implements grpcapi.Store: the View that clients' requests are decided by.
func (d storeDoor) View() *state.View { return d.clients.view.Load() }

// DiskBytes implements grpcapi.Store.
func (d storeDoor) DiskBytes() int64 { return d.engine.Stats().DiskBytes }
