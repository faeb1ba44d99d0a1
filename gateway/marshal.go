package gateway

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
)

// Package protojson writes a blank after commas, or a no-break space into its errors, in one half of all builds, so that nobody
// relies on either. People rely on everything: what leaves here does not depend on the build.

func newMarshaler() runtime.Marshaler {
	m := &runtime.JSONPb{MarshalOptions: protojson.MarshalOptions{UseProtoNames: true}, UnmarshalOptions: protojson.UnmarshalOptions{DiscardUnknown: true}}
	return &runtime.HTTPBodyMarshaler{Marshaler: compact{m}}
}

// compact is JSON without blanks.
type compact struct{ *runtime.JSONPb }

// blanks says that this build's protojson writes some.
var blanks = sync.OnceValue(func() bool {
	b, err := protojson.Marshal(status.New(codes.Aborted, "x").Proto())
	return err != nil || bytes.Contains(b, []byte(", "))
})

func (c compact) Marshal(v any) ([]byte, error) {
	b, err := c.JSONPb.Marshal(v)
	if err != nil || !blanks() {
		return b, err
	}
	out := bytes.NewBuffer(make([]byte, 0, len(b)))
	err = json.Compact(out, b)
	return out.Bytes(), err
}

// steady is the text of an error of protojson.
func steady(err error) string {
	return strings.ReplaceAll(err.Error(), "proto:\u00a0", "proto: ")
}
