package render

import (
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Txn is the answer to a transaction.
func Txn(resp *clientv3.TxnResponse) Result {
	r := (*pb.TxnResponse)(resp)
	return Result{JSON: txnForJSON(r), Proto: r, Text: func(t *Text) { textTxn(t, r) }, Fields: func(l *Lines) { fieldsTxn(l, r) }}
}

func textTxn(t *Text, r *pb.TxnResponse) {
	if r.GetSucceeded() {
		t.Line("SUCCESS")
	} else {
		t.Line("FAILURE")
	}
	for _, op := range r.GetResponses() {
		t.Line("")
		switch v := op.GetResponse().(type) {
		case *pb.ResponseOp_ResponseDeleteRange:
			textDel(t, v.ResponseDeleteRange)
		case *pb.ResponseOp_ResponsePut:
			textPut(t, v.ResponsePut)
		case *pb.ResponseOp_ResponseRange:
			textGet(t, v.ResponseRange)
		default:
			t.Printf("unexpected response %+v\n", op)
		}
	}
}

func fieldsTxn(l *Lines, r *pb.TxnResponse) {
	l.Header(r.GetHeader())
	l.Field("Succeeded", r.GetSucceeded())
	for _, op := range r.GetResponses() {
		switch v := op.GetResponse().(type) {
		case *pb.ResponseOp_ResponseDeleteRange:
			fieldsDel(l, v.ResponseDeleteRange)
		case *pb.ResponseOp_ResponsePut:
			fieldsPut(l, v.ResponsePut)
		case *pb.ResponseOp_ResponseRange:
			fieldsGet(l, v.ResponseRange)
		default:
			l.Quoted("Unknown", fmt.Sprintf("%+v", v))
		}
	}
}

// txnJSON has the form that older versions of the messages made of a transaction's answer, which scripts know.
type txnJSON struct {
	Header    *pb.ResponseHeader `json:"header,omitempty"`
	Succeeded bool               `json:"succeeded,omitempty"`
	Responses []txnOpJSON        `json:"responses,omitempty"`
}

type txnOpJSON struct {
	Response struct {
		Range *pb.RangeResponse       `json:"response_range,omitempty"`
		Put   *pb.PutResponse         `json:"response_put,omitempty"`
		Del   *pb.DeleteRangeResponse `json:"response_delete_range,omitempty"`
		Txn   *txnJSON                `json:"response_txn,omitempty"`
	} `json:"Response"`
}

func txnForJSON(r *pb.TxnResponse) *txnJSON {
	out := &txnJSON{Header: r.GetHeader(), Succeeded: r.GetSucceeded()}
	for _, op := range r.GetResponses() {
		var o txnOpJSON
		switch v := op.GetResponse().(type) {
		case *pb.ResponseOp_ResponseRange:
			o.Response.Range = v.ResponseRange
		case *pb.ResponseOp_ResponsePut:
			o.Response.Put = v.ResponsePut
		case *pb.ResponseOp_ResponseDeleteRange:
			o.Response.Del = v.ResponseDeleteRange
		case *pb.ResponseOp_ResponseTxn:
			o.Response.Txn = txnForJSON(v.ResponseTxn)
		}
		out.Responses = append(out.Responses, o)
	}
	return out
}

// Watch is one message of a watch.
func Watch(r *clientv3.WatchResponse) Result {
	return Result{
		JSON: r,
		Proto: &pb.WatchResponse{
			Header: r.Header, Events: r.Events, CompactRevision: r.CompactRevision, Canceled: r.Canceled, Created: r.Created,
		},
		Text: func(t *Text) {
			for _, e := range r.Events {
				t.event(e)
				if e.GetPrevKv() != nil {
					t.KV(e.GetPrevKv())
				}
				t.KV(e.GetKv())
			}
		},
		Fields: func(l *Lines) {
			l.Header(r.Header)
			for _, e := range r.Events {
				l.Field("Type", e.GetType())
				if e.GetPrevKv() != nil {
					l.KV("Prev", e.GetPrevKv())
				}
				l.KV("", e.GetKv())
			}
		},
	}
}
