package auth_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"quorate.dev/quorate/auth"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/wire"
)

// The tests of this file are the advisories that etcd has published of its authorization, each as the request that got through.

// restricted is a store in which ann may read and write the key "mine" alone, and secret keys are attached to lease 7.
func restricted(t *testing.T) (*auth.View, auth.Identity, auth.Attached) {
	s := newStore(t)
	v := s.people(map[string][]wire.AuthPermission{"ann": {perm(wire.AuthReadWrite, "mine", "")}})
	return v, as("ann", v), oneLease{"mine", "secret"}
}

func ask1(m auth.Method, op auth.Op) *auth.Request {
	return &auth.Request{Method: m, Ops: []auth.Op{op}}
}

// TestAdvisoryUnauthenticatedCalls is CVE-2026-33413 (GHSA-q8m4-xhhv-38mg): MemberList, Alarm, the lease calls and Compact were
// answered to anybody.
func TestAdvisoryUnauthenticatedCalls(t *testing.T) {
	v, ann, leases := restricted(t)
	for _, m := range []auth.Method{auth.MethodMemberList, auth.MethodAlarm, auth.MethodStatus, auth.MethodLeaseGrant, auth.MethodLeaseRevoke,
		auth.MethodLeaseKeepAlive, auth.MethodLeaseTimeToLive, auth.MethodLeaseLeases, auth.MethodCompact} {
		for _, get := range []bool{false, true} {
			r := &auth.Request{Method: m, AlarmGet: get, Lease: 7}
			require.ErrorIs(t, v.May(auth.Identity{}, r, leases), fault.UserEmpty, m)
			r.Lease = 99 // does not exist
			require.ErrorIs(t, v.May(auth.Identity{}, r, leases), fault.UserEmpty, m)
		}
	}
	for _, m := range []auth.Method{auth.MethodAlarm, auth.MethodLeaseRevoke, auth.MethodLeaseKeepAlive, auth.MethodLeaseLeases, auth.MethodCompact} {
		require.ErrorIs(t, v.May(ann, &auth.Request{Method: m, Lease: 7}, leases), fault.PermissionDenied, m)
	}
	require.NoError(t, v.May(ann, &auth.Request{Method: auth.MethodAlarm, AlarmGet: true}, leases))
}

// TestAdvisoryNestedTransactions is CVE-2026-33343 (GHSA-rfx7-8w68-q57q): what a transaction held in a transaction was not
// looked at.
func TestAdvisoryNestedTransactions(t *testing.T) {
	v, ann, leases := restricted(t)
	key, end := []byte("secret"), []byte{0}
	for name, op := range map[string]wire.RequestOp{
		"read":    {Range: &wire.RangeRequest{Key: key}},
		"read on": {Range: &wire.RangeRequest{Key: []byte("mine"), RangeEnd: end}},
		"write":   {Put: &wire.PutRequest{Key: key}},
		"delete":  {DeleteRange: &wire.DeleteRangeRequest{Key: key, RangeEnd: end}},
		"compare": {Txn: &wire.TxnRequest{Compare: []wire.Compare{{Key: key}}}},
	} {
		for depth := range 4 {
			for _, failure := range []bool{false, true} {
				txn := &wire.TxnRequest{Success: []wire.RequestOp{op}}
				if failure {
					txn.Success, txn.Failure = nil, txn.Success
				}
				require.ErrorIs(t, v.May(ann, ask1(auth.MethodTxn, auth.OfTxn(txn)), leases), fault.PermissionDenied, "%s at depth %d", name, depth)
				op = wire.RequestOp{Txn: txn}
			}
		}
	}
	fine := &wire.TxnRequest{Success: []wire.RequestOp{{Txn: &wire.TxnRequest{Failure: []wire.RequestOp{{Put: &wire.PutRequest{Key: []byte("mine")}}}}}}}
	require.NoError(t, v.May(ann, ask1(auth.MethodTxn, auth.OfTxn(fine)), leases))
}

// TestAdvisoryPutsInTransactions is CVE-2026-44283 (GHSA-x35m-3gp4-4fh5): a put in a transaction showed the previous value to
// who may not read it, and attached keys to a lease that the user may not revoke.
func TestAdvisoryPutsInTransactions(t *testing.T) {
	s := newStore(t)
	v := s.people(map[string][]wire.AuthPermission{"ann": {perm(wire.AuthWrite, "mine", ""), perm(wire.AuthReadWrite, "both", "")}})
	ann, leases := as("ann", v), oneLease{"both", "secret"}
	for name, put := range map[string]*wire.PutRequest{
		"prev_kv": {Key: []byte("mine"), PrevKV: true},
		"lease":   {Key: []byte("both"), Lease: 7},
	} {
		op := wire.RequestOp{Put: put}
		require.ErrorIs(t, v.May(ann, ask1(auth.MethodPut, auth.OfPut(put)), leases), fault.PermissionDenied, name)
		for range 3 {
			txn := &wire.TxnRequest{Failure: []wire.RequestOp{op}}
			require.ErrorIs(t, v.May(ann, ask1(auth.MethodTxn, auth.OfTxn(txn)), leases), fault.PermissionDenied, name)
			op = wire.RequestOp{Txn: txn}
		}
	}
	fine := &wire.TxnRequest{Success: []wire.RequestOp{{Put: &wire.PutRequest{Key: []byte("mine")}}, {Put: &wire.PutRequest{Key: []byte("both"), PrevKV: true, Lease: 8}}}}
	require.NoError(t, v.May(ann, ask1(auth.MethodTxn, auth.OfTxn(fine)), leases))
}

// TestAdvisoryOpenWatch is GHSA-xg4h-6gfc-h4m8: who may read one key could watch all keys from it on, since the range end was
// translated before it was decided.
func TestAdvisoryOpenWatch(t *testing.T) {
	v, ann, leases := restricted(t)
	for _, end := range []string{"\x00", "mine\x00\x00", "n", "\xff"} {
		require.ErrorIs(t, v.May(ann, ask1(auth.MethodWatch, auth.OfWatch([]byte("mine"), []byte(end))), leases), fault.PermissionDenied, "%q", end)
	}
	for _, end := range [][]byte{nil, {}, []byte("mine\x00")} {
		require.NoError(t, v.May(ann, ask1(auth.MethodWatch, auth.OfWatch([]byte("mine"), end)), leases), "%q", end)
	}
	require.ErrorIs(t, v.May(ann, ask1(auth.MethodWatch, auth.OfWatch(nil, []byte{0})), leases), fault.PermissionDenied)
	require.ErrorIs(t, v.May(ann, ask1(auth.MethodWatch, auth.OfWatch(nil, nil)), leases), fault.PermissionDenied)
}

// TestAdvisoryTimeToLive is CVE-2023-32082: LeaseTimeToLive named keys to who may not read them.
func TestAdvisoryTimeToLive(t *testing.T) {
	v, ann, leases := restricted(t)
	require.NoError(t, v.May(ann, &auth.Request{Method: auth.MethodLeaseTimeToLive, Lease: 7}, leases))
	require.ErrorIs(t, v.May(ann, &auth.Request{Method: auth.MethodLeaseTimeToLive, Lease: 7, WithKeys: true}, leases), fault.PermissionDenied)
	require.ErrorIs(t, v.May(ann, &auth.Request{Method: auth.MethodLeaseLeases}, leases), fault.PermissionDenied)
	require.NoError(t, v.May(ann, &auth.Request{Method: auth.MethodLeaseTimeToLive, Lease: 7, WithKeys: true}, oneLease{"mine"}))
}
