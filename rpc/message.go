package rpc

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"sync"
)

// Message is an answer that knows its size. Append must append exactly Size bytes, must not block and must not call
// back into this package: it may run while a connection is locked.
type Message interface {
	Size() int
	Append(dst []byte) []byte
}

// RawMessage is a Message that is already encoded.
type RawMessage []byte

// Size returns the number of bytes.
func (m RawMessage) Size() int { return len(m) }

// Append appends the bytes to dst.
func (m RawMessage) Append(dst []byte) []byte { return append(dst, m...) }

// prefixBytes is the length-prefix of a gRPC message: a compressed flag and a big-endian length.
const prefixBytes = 5

func appendPrefix(dst []byte, size int) []byte {
	return append(dst, 0, byte(size>>24), byte(size>>16), byte(size>>8), byte(size))
}

// declaredSize is the message length in a complete prefix.
func declaredSize(prefix []byte) uint32 { return binary.BigEndian.Uint32(prefix[1:]) }

// tooLarge is the refusal of a message that declares size bytes where max are allowed, in grpc-go's words.
func tooLarge(size uint32, limit int) *Status {
	return statusf(ResourceExhausted, "grpc: received message larger than max (%d vs. %d)", size, limit)
}

// unwrap returns the message in framed, which is one prefix and its payload, decompressed into at most limit bytes.
func unwrap(framed []byte, encoding string, limit int) ([]byte, *Status) {
	body := framed[prefixBytes:]
	switch flag := framed[0]; {
	case flag == 0:
		return body, nil
	case flag != 1:
		return nil, statusf(Internal, "grpc: received unexpected payload format %d", flag)
	case encoding == "" || encoding == "identity":
		return nil, statusf(Internal, "grpc: compressed flag set with identity or empty encoding")
	}
	return gunzip(body, limit)
}

var gzipReaders sync.Pool // of *gzip.Reader

func gunzip(body []byte, limit int) ([]byte, *Status) {
	z, _ := gzipReaders.Get().(*gzip.Reader)
	var err error
	if z == nil {
		z, err = gzip.NewReader(bytes.NewReader(body))
	} else {
		err = z.Reset(bytes.NewReader(body))
	}
	if err != nil {
		return nil, statusf(Internal, "grpc: failed to decompress the received message: %v", err)
	}
	defer gzipReaders.Put(z)
	plain, err := io.ReadAll(io.LimitReader(z, int64(limit)+1))
	if err != nil {
		return nil, statusf(Internal, "grpc: failed to decompress the received message: %v", err)
	}
	if len(plain) > limit {
		return nil, statusf(ResourceExhausted, "grpc: received message after decompression larger than max %d", limit)
	}
	return plain, nil
}
