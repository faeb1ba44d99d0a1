package render

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Get is the answer to a range.
func Get(resp *clientv3.GetResponse) Result {
	r := (*pb.RangeResponse)(resp)
	return Result{JSON: r, Proto: r, Text: func(t *Text) { textGet(t, r) }, Fields: func(l *Lines) { fieldsGet(l, r) }}
}

func textGet(t *Text, r *pb.RangeResponse) {
	for _, kv := range r.GetKvs() {
		t.KV(kv)
	}
}

func fieldsGet(l *Lines, r *pb.RangeResponse) {
	l.Header(r.GetHeader())
	for _, kv := range r.GetKvs() {
		l.KV("", kv)
	}
	l.Field("More", r.GetMore())
	l.Field("Count", r.GetCount())
}

// Put is the answer to a put.
func Put(resp *clientv3.PutResponse) Result {
	r := (*pb.PutResponse)(resp)
	return Result{JSON: r, Proto: r, Text: func(t *Text) { textPut(t, r) }, Fields: func(l *Lines) { fieldsPut(l, r) }}
}

func textPut(t *Text, r *pb.PutResponse) {
	t.Line("OK")
	if r.GetPrevKv() != nil {
		t.KV(r.GetPrevKv())
	}
}

func fieldsPut(l *Lines, r *pb.PutResponse) {
	l.Header(r.GetHeader())
	if r.GetPrevKv() != nil {
		l.KV("Prev", r.GetPrevKv())
	}
}

// Del is the answer to a deletion.
func Del(resp *clientv3.DeleteResponse) Result {
	r := (*pb.DeleteRangeResponse)(resp)
	return Result{JSON: r, Proto: r, Text: func(t *Text) { textDel(t, r) }, Fields: func(l *Lines) { fieldsDel(l, r) }}
}

func textDel(t *Text, r *pb.DeleteRangeResponse) {
	t.Line(r.GetDeleted())
	for _, kv := range r.GetPrevKvs() {
		t.KV(kv)
	}
}

func fieldsDel(l *Lines, r *pb.DeleteRangeResponse) {
	l.Header(r.GetHeader())
	l.Field("Deleted", r.GetDeleted())
	for _, kv := range r.GetPrevKvs() {
		l.KV("Prev", kv)
	}
}
