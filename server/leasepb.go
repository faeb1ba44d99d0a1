package server

import (
	"errors"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// The messages between members about how long a lease lives hold those of clients in field 1 (source: lease/leasepb,
// LeaseInternalRequest and LeaseInternalResponse).

func wrapField1(b []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), b)
}

var errLeaseMessage = errors.New("server: a message about a lease cannot be understood")

func unwrapField1(b []byte, into proto.Message) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errLeaseMessage
		}
		b = b[n:]
		if num == 1 && typ == protowire.BytesType {
			inner, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return errLeaseMessage
			}
			return proto.Unmarshal(inner, into)
		}
		if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			return errLeaseMessage
		}
		b = b[n:]
	}
	return errLeaseMessage
}
