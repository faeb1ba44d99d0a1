package render

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Grant is the answer to a lease's grant. The messages of leases print only their headers as protobuf, as etcdctl's do: the
// client's types have no other protobuf form.
func Grant(r *clientv3.LeaseGrantResponse) Result {
	return Result{
		JSON: r, Proto: r,
		Text:   func(t *Text) { t.Printf("lease %016x granted with TTL(%ds)\n", r.ID, r.TTL) },
		Fields: func(l *Lines) { fieldsLease(l, r.ResponseHeader, int64(r.ID), r.TTL) },
	}
}

func fieldsLease(l *Lines, h *pb.ResponseHeader, id, ttl int64) {
	l.Header(h)
	l.Lease("ID", id)
	l.Field("TTL", ttl)
}

// Revoke is the answer to a lease's revocation. It has no protobuf form.
func Revoke(id clientv3.LeaseID, r *clientv3.LeaseRevokeResponse) Result {
	return Result{
		JSON: r, Proto: r,
		Text:   func(t *Text) { t.Printf("lease %016x revoked\n", id) },
		Fields: func(l *Lines) { l.Header((*pb.LeaseRevokeResponse)(r).GetHeader()) },
	}
}

// KeepAlive is the answer to a lease's renewal.
func KeepAlive(r *clientv3.LeaseKeepAliveResponse) Result {
	return Result{
		JSON: r, Proto: r,
		Text:   func(t *Text) { t.Printf("lease %016x keepalived with TTL(%d)\n", r.ID, r.TTL) },
		Fields: func(l *Lines) { fieldsLease(l, r.ResponseHeader, int64(r.ID), r.TTL) },
	}
}

// TimeToLive is what is known about a lease; keys says whether its keys were asked for.
func TimeToLive(r *clientv3.LeaseTimeToLiveResponse, keys bool) Result {
	return Result{
		JSON: r, Proto: r,
		Text: func(t *Text) {
			if r.GrantedTTL == 0 && r.TTL == -1 {
				t.Printf("lease %016x already expired\n", r.ID)
				return
			}
			t.Printf("lease %016x granted with TTL(%ds), remaining(%ds)", r.ID, r.GrantedTTL, r.TTL)
			if keys {
				names := make([]string, len(r.Keys))
				for i, k := range r.Keys {
					names[i] = string(k)
				}
				t.Printf(", attached keys(%v)", names)
			}
			t.Line()
		},
		Fields: func(l *Lines) {
			fieldsLease(l, r.ResponseHeader, int64(r.ID), r.TTL)
			l.Field("GrantedTTL", r.GrantedTTL)
			for _, k := range r.Keys {
				l.Quoted("Key", string(k))
			}
		},
	}
}

// Leases are all leases.
func Leases(r *clientv3.LeaseLeasesResponse) Result {
	return Result{
		JSON: r, Proto: r,
		Text: func(t *Text) {
			t.Printf("found %d leases\n", len(r.Leases))
			for _, lease := range r.Leases {
				t.Printf("%016x\n", lease.ID)
			}
		},
		Fields: func(l *Lines) {
			l.Header(r.ResponseHeader)
			for _, lease := range r.Leases {
				l.Lease("ID", int64(lease.ID))
			}
		},
	}
}
