package wire

import (
	"fmt"
	"math/bits"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// Wire types of the protobuf encoding (https://protobuf.dev/programming-guides/encoding/#structure).
const (
	typeVarint = 0
	typeBytes  = 2
)

// levels is how deep messages may nest, the outermost included: the default RecursionLimit of google.golang.org/protobuf.
const levels = 10000

// The reasons why input is refused. A decoding position below zero is one of them.
const (
	badTruncated = -1 - iota
	badVarint
	badField
	badUTF8
	badDepth
	badBody
)

// Error says where an encoded message is malformed.
type Error struct {
	Message string // the message type whose fields were being read
	Offset  int    // of the offending field's tag, in bytes from that message's start
	Reason  string
}

// Error is the text, such as "wire: PutRequest: field at byte 12: truncated".
func (e *Error) Error() string {
	return fmt.Sprintf("wire: %s: field at byte %d: %s", e.Message, e.Offset, e.Reason)
}

func malformed(message string, offset, code int) error {
	reason := map[int]string{
		badTruncated: "truncated",
		badVarint:    "varint longer than 64 bits",
		badField:     "field number, wire type or group is not valid",
		badUTF8:      "string is not valid UTF-8",
		badDepth:     "messages nested too deep",
		badBody:      "a log entry holds more than one request",
	}[code]
	return &Error{Message: message, Offset: offset, Reason: reason}
}

// uvarint reads a varint at b[i:] and returns it with the position after it, or a reason below zero.
func uvarint(b []byte, i int) (uint64, int) {
	if i < len(b) && b[i] < 0x80 {
		return uint64(b[i]), i + 1
	}
	return uvarintLong(b, i)
}

func uvarintLong(b []byte, i int) (uint64, int) {
	var v uint64
	for shift := uint(0); shift < 64; shift += 7 {
		if i >= len(b) {
			return 0, badTruncated
		}
		c := b[i]
		i++
		if c < 0x80 {
			if shift == 63 && c > 1 {
				return 0, badVarint
			}
			return v | uint64(c)<<shift, i
		}
		v |= uint64(c&0x7f) << shift
	}
	return 0, badVarint
}

// bytesAt reads a length-delimited value at b[i:]. The value aliases b and cannot grow into it.
func bytesAt(b []byte, i int) ([]byte, int) {
	n, i := uvarint(b, i)
	if i < 0 {
		return nil, i
	}
	if n > uint64(len(b)-i) {
		return nil, badTruncated
	}
	end := i + int(n)
	return b[i:end:end], end
}

// field is one field of a message: tag is number<<3 | wire type; v is the value of a varint field, data that of a
// length-delimited one. Fields of other wire types, which no message here has, carry only their tag.
type field struct {
	tag  uint64
	v    uint64
	data []byte
}

// next reads the field at b[i:] and gives the position after it, or a reason below zero. It checks everything that the
// encoding demands of a field, known or not.
func next(b []byte, i int) (f field, end int) {
	tag, i := uvarint(b, i)
	if i < 0 {
		return f, i
	}
	f.tag = tag
	num := tag >> 3
	if num < uint64(protowire.MinValidNumber) || num > uint64(protowire.MaxValidNumber) {
		return f, badField
	}
	switch tag & 7 {
	case typeVarint:
		f.v, end = uvarint(b, i)
		return f, end
	case typeBytes:
		f.data, end = bytesAt(b, i)
		return f, end
	}
	n := protowire.ConsumeFieldValue(protowire.Number(num), protowire.Type(tag&7), b[i:])
	if n < 0 {
		return f, badField
	}
	return f, i + n
}

// text takes the value of a string field, which proto3 requires to be UTF-8. It passes end on, or gives the reason.
func text(data []byte, end int) (string, int) {
	if !utf8.Valid(data) {
		return "", badUTF8
	}
	return string(data), end
}

// merged gives the bytes of a sub-message that occurred as old before and occurs again as b. Concatenation is merging,
// by the definition of the encoding. The result never aliases spare capacity of old.
func merged(old, b []byte) []byte {
	if old == nil {
		return b
	}
	return append(old[:len(old):len(old)], b...)
}

// check reads the fields of a message of which nothing is kept.
func check(message string, b []byte) error {
	for i := 0; i < len(b); {
		_, end := next(b, i)
		if end < 0 {
			return malformed(message, i, end)
		}
		i = end
	}
	return nil
}

func sizeVarint(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// The size functions give the bytes of a field whose tag takes one byte (numbers 1 to 15), 0 for a zero value.

func sizeUint(v uint64) int {
	if v == 0 {
		return 0
	}
	return 1 + sizeVarint(v)
}

func sizeInt(v int64) int { return sizeUint(uint64(v)) }

func sizeBool(v bool) int {
	if v {
		return 2
	}
	return 0
}

func sizeLen(n int) int { return 1 + sizeVarint(uint64(n)) + n }

func sizeBytes[T []byte | string](v T) int {
	if len(v) == 0 {
		return 0
	}
	return sizeLen(len(v))
}

func appendVarint(dst []byte, v uint64) []byte {
	if v < 0x80 {
		return append(dst, byte(v))
	}
	return protowire.AppendVarint(dst, v)
}

// The append functions write a field whose tag takes one byte, nothing for a zero value.

func appendUint(dst []byte, num byte, v uint64) []byte {
	if v == 0 {
		return dst
	}
	return appendVarint(append(dst, num<<3|typeVarint), v)
}

func appendInt(dst []byte, num byte, v int64) []byte { return appendUint(dst, num, uint64(v)) }

func appendBool(dst []byte, num byte, v bool) []byte {
	if !v {
		return dst
	}
	return append(dst, num<<3|typeVarint, 1)
}

// appendLen writes the tag and length of a length-delimited field, also when the length is zero.
func appendLen(dst []byte, num byte, n int) []byte {
	return appendVarint(append(dst, num<<3|typeBytes), uint64(n))
}

func appendBytes[T []byte | string](dst []byte, num byte, v T) []byte {
	if len(v) == 0 {
		return dst
	}
	return append(appendLen(dst, num, len(v)), v...)
}

// sizeSub and appendSub are for a sub-message in encoded form: absent when nil, an empty message when empty.

func sizeSub(b []byte) int {
	if b == nil {
		return 0
	}
	return sizeLen(len(b))
}

func appendSub(dst []byte, num byte, b []byte) []byte {
	if b == nil {
		return dst
	}
	return append(appendLen(dst, num, len(b)), b...)
}
