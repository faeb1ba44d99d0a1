package check

import "testing"

// lockWorld is lock "l/" with three keys: a (revisions 2 to 6), b (3 to 7, it waits for a) and c (4, still there), on leases 1, 2
// and 3 of 10 s. One revision is a second.
func lockWorld() ([]Watch, []Hold, []LeaseOp) {
	put := func(rev int64, key string, lease int64) Event {
		return Event{Revision: rev, KV: KV{Key: key, Create: rev, Mod: rev, Version: 1, Lease: lease}}
	}
	gone := func(rev int64, key string) Event {
		return Event{Revision: rev, Delete: true, KV: KV{Key: key, Mod: rev}}
	}
	var batches []Batch
	for _, e := range []Event{put(2, "l/a", 1), put(3, "l/b", 2), put(4, "l/c", 3), put(5, "m/a", 1), gone(6, "l/a"), gone(7, "l/b")} {
		batches = append(batches, Batch{Revision: e.Revision, Events: []Event{e}})
	}
	watches := []Watch{{Name: "all", Key: "\x00", End: "\x00", Sessions: []Session{{From: 2, Batches: batches}}}}
	holds := []Hold{
		{Client: 1, Prefix: "l/", Key: "l/a", Lease: 1, Create: 2, At: 2, From: 2100, To: 6000},
		{Client: 2, Prefix: "l/", Key: "l/b", Lease: 2, Create: 3, At: 6, From: 6100, To: 7000},
		{Client: 3, Prefix: "l/", Key: "l/c", Lease: 3, Create: 4, At: 7, From: 7100, To: Never},
		{Client: 1, Prefix: "m/", Key: "m/a", Lease: 1, Create: 5, At: 5, From: 5100, To: Never},
	}
	var leases []LeaseOp
	for lease := range int64(3) {
		leases = append(leases, LeaseOp{Act: LeaseGrant, Lease: lease + 1, Call: 1000, Return: 1010, TTL: 10},
			LeaseOp{Act: LeaseRenew, Lease: lease + 1, Call: 4000, Return: 4010, TTL: 10})
	}
	return watches, holds, leases
}

func TestLocks(t *testing.T) {
	for _, c := range []struct {
		name, rule, text string
		plant            func(events []Batch, holds []Hold, leases []LeaseOp)
	}{
		{"as it should be", "", "", func([]Batch, []Hold, []LeaseOp) {}},
		{"owner before its turn", "not the owner", `"l/a", created at 2, was there until revision 6`, func(_ []Batch, h []Hold, _ []LeaseOp) { h[1].At = 5 }},
		{"owner after the end", "not the owner", "until revision 6 only", func(_ []Batch, h []Hold, _ []LeaseOp) { h[0].At = 6 }},
		{"no such key", "not the owner", "revision 9 did not create", func(_ []Batch, h []Hold, _ []LeaseOp) { h[2].Create = 9 }},
		{"the key of another", "not the owner", "revision 4 did not create", func(_ []Batch, h []Hold, _ []LeaseOp) { h[2].Key = "l/a" }},
		{"another lease", "not the owner", "created with lease 3", func(_ []Batch, h []Hold, _ []LeaseOp) { h[2].Lease = 2 }},
		{"two keys at once", "two keys of one creation", "revision 4", func(b []Batch, _ []Hold, _ []LeaseOp) {
			b[2].Events = append(b[2].Events, Event{Revision: 4, KV: KV{Key: "l/d", Create: 4, Mod: 4, Version: 1}})
		}},
		{"lost while it was promised", "two holders at one time", "both hold it at 6100", func(_ []Batch, h []Hold, _ []LeaseOp) { h[0].To = 6200 }},
		{"lost when its lease was over", "", "", func(_ []Batch, h []Hold, l []LeaseOp) {
			h[0].To = 30_000
			l[0].TTL, l[1].TTL = 1, 1
		}},
		{"lost by a revocation", "", "", func(_ []Batch, h []Hold, l []LeaseOp) {
			h[0].To = 30_000
			l[1] = LeaseOp{Act: LeaseRevoke, Lease: 1, Call: 5500, Return: Never}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			watches, holds, leases := lockWorld()
			c.plant(watches[0].Sessions[0].Batches, holds, leases)
			truth, _ := TruthOf(watches, 0)
			wantViolation(t, Locks(holds, truth, leases, leaseRules()), c.rule, c.text)
		})
	}
}

// TestPromised checks that spans are merged only where they meet, and end with a revocation.
func TestPromised(t *testing.T) {
	spans := Promised([]LeaseOp{
		{Act: LeaseGrant, Lease: 1, Call: 1000, Return: 1010, TTL: 2}, {Act: LeaseRenew, Lease: 1, Call: 2500, Return: 2600, TTL: 2},
		{Act: LeaseRenew, Lease: 1, Call: 3000, Return: Never}, {Act: LeaseRenew, Lease: 1, Call: 5000, Return: 5010, TTL: 2},
		{Act: LeaseRevoke, Lease: 1, Call: 6000, Return: 6010}}, leaseRules())[1]
	if len(spans) != 2 || spans[0] != (Span{1000, 4500}) || spans[1] != (Span{5000, 6000}) {
		t.Fatal(spans)
	}
}
