package proxy

import (
	"strings"

	"quorate.dev/quorate/load/lean"
	"quorate.dev/quorate/proxy/upstream"
	"quorate.dev/quorate/rpc"
)

// request is what calls and streams of clients have in common.
type request interface {
	Method() string
	EachMetadata(f func(key, value string))
	Derived(derive func() any) any
}

// origin is from whom a request is: the metadata that is passed on, credentials among it. Requests with equal origins may
// share an answer of the store, because the store cannot tell them apart.
type origin struct {
	meta   []lean.Field // in order of arrival
	key    string       // equal for those that may share: see upstream.Sharing
	header *lean.Header // of the method asked for
	bad    *rpc.Status  // why the metadata cannot be passed on, nil when it can
}

// originOf is derived once from equal headers of one connection.
func originOf(r request) *origin {
	o, ok := r.Derived(func() any { return newOrigin(r) }).(*origin)
	if !ok {
		panic("BUG: something else is derived from headers")
	}
	return o
}

func newOrigin(r request) *origin {
	o := &origin{}
	r.EachMetadata(func(name, value string) {
		if passedOn(name) {
			o.meta = append(o.meta, lean.Field{Name: name, Value: value})
		}
	})
	o.key, _ = upstream.Sharing(o.meta)
	var err error
	if o.header, err = lean.NewHeader(r.Method(), o.meta...); err != nil {
		o.bad = &rpc.Status{Code: rpc.InvalidArgument, Message: err.Error()}
	}
	return o
}

// passedOn reports whether metadata of this name goes to the store: all but what belongs to the client's own connection.
func passedOn(name string) bool {
	switch name {
	case "content-type", "content-length", "user-agent", "te", "host":
		return false
	}
	return !strings.HasPrefix(name, ":") && !strings.HasPrefix(name, "grpc-")
}
