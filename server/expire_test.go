package server

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/wire"
)

// resultOf is a waiter that hands the result on.
type resultOf chan command.Result

// Complete implements command.Waiter.
func (c resultOf) Complete(r *command.Result) { c <- *r }

// TestLeasesExpireUnderAuthentication: nobody's name is on the revocation of an expired lease, and its keys go all the same.
func TestLeasesExpireUnderAuthentication(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	port := freePorts(t, 1)[0]
	c := settings(t, t.TempDir(), "a", port, "initial-cluster", fmt.Sprintf("a=http://127.0.0.1:%d", port))
	s, err := Start(ctx, c, zap.NewNop())
	require.NoError(t, err)
	defer stopServer(t, s)

	type message interface {
		Size() int
		Append([]byte) []byte
	}
	try := func(kind command.Kind, m message) error {
		done := make(resultOf, 1)
		s.core.host.ProposeMessageAs(kind, m, "root", 1<<40, done)
		return (<-done).Err
	}
	propose := func(kind command.Kind, m message) {
		t.Helper()
		require.NoError(t, try(kind, m), kind)
	}
	propose(command.AuthUserAdd, &wire.AuthUserAddRequest{Name: "root"})
	propose(command.AuthUserGrantRole, &wire.AuthNames{First: "root", Second: "root"})
	propose(command.AuthEnable, &wire.AuthNames{})
	propose(command.LeaseGrant, &wire.LeaseGrantRequest{ID: 8, TTL: 1})
	for attached := false; !attached; { // a lease of so short a life may end before anything is attached to it
		propose(command.LeaseGrant, &wire.LeaseGrantRequest{ID: 7, TTL: 1})
		err := try(command.Put, &wire.PutRequest{Key: []byte("k"), Lease: 7})
		if attached = err == nil; !attached {
			require.ErrorIs(t, err, fault.LeaseNotFound)
		}
	}
	require.True(t, s.core.machine.View().Auth.Enabled())
	for s.core.machine.View().Leases.Len() > 0 {
		require.NoError(t, ctx.Err(), "leases do not expire")
		wait, stop := context.WithTimeout(ctx, 20*time.Millisecond)
		<-wait.Done()
		stop()
	}
	resp, err := s.core.machine.View().Range(&wire.RangeRequest{Key: []byte("k")})
	require.NoError(t, err)
	require.Empty(t, resp.KVs)
}
