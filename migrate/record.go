package migrate

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"quorate.dev/quorate/wire"
)

// Bounds of what a transformer may write, bytes.
const (
	maxRecord = 256 << 20 // one key-value; no etcd takes a request of that size
	maxOutput = 8 << 30   // all of it; no etcd's store may be larger
)

// OutputError says what is wrong with the output of a transformer.
type OutputError struct {
	Offset int64 // in the output, of the record's length, bytes
	Reason string
}

// Error names the offset.
func (e *OutputError) Error() string {
	return fmt.Sprintf("its output at offset %d: %s", e.Offset, e.Reason)
}

// readRecords reads the output of a transformer to its end. progress is called after every read.
func readRecords(r io.Reader, visit func(kv *wire.KeyValue) error) error {
	var head [8]byte
	var room []byte
	for at := int64(0); ; {
		wrong := func(format string, args ...any) error {
			return &OutputError{Offset: at, Reason: fmt.Sprintf(format, args...)}
		}
		n, err := io.ReadFull(r, head[:])
		switch length := int64(binary.LittleEndian.Uint64(head[:])); {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			return wrong("it ends within a length, after the bytes %q", head[:n])
		case err != nil:
			return err
		case length <= 0 || length > maxRecord:
			return wrong("the bytes %q are the length %d, and a key-value has 1 to %d bytes: every key-value has to begin with its length as 8 bytes, little-endian, and nothing else may be written to stdout",
				head[:], length, maxRecord)
		case at+length > maxOutput:
			return wrong("it has more than %d bytes altogether", int64(maxOutput))
		default:
			if room, err = readBody(r, room[:0], length); err != nil {
				if errors.Is(err, io.ErrUnexpectedEOF) {
					return wrong("it ends %d bytes after a length of %d", len(room), length)
				}
				return err
			}
			kv := &wire.KeyValue{}
			if err := kv.Unmarshal(slices.Clone(room)); err != nil {
				return wrong("what has the length %d is no mvccpb.KeyValue: %v", length, err)
			}
			if reason := unfit(kv); reason != "" {
				return wrong("%s", reason)
			}
			if err := visit(kv); err != nil {
				return wrong("%v", err)
			}
			at += int64(len(head)) + length
		}
	}
}

// readBody reads n bytes, taking memory as they come.
func readBody(r io.Reader, room []byte, n int64) ([]byte, error) {
	for int64(len(room)) < n {
		part := min(n-int64(len(room)), 1<<20)
		from := len(room)
		room = slices.Grow(room, int(part))[:from+int(part)]
		got, err := io.ReadFull(r, room[from:])
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return room[:from+got], err
		}
	}
	return room, nil
}

// unfit says why no store can hold a key-value; "" when it can.
func unfit(kv *wire.KeyValue) string {
	switch {
	case len(kv.Key) == 0:
		return "a key-value has an empty key"
	case kv.ModRevision <= 0:
		return fmt.Sprintf("key %q has mod_revision %d; it has to be that of a v2 node, modifiedIndex, or another one above 0", kv.Key, kv.ModRevision)
	case kv.CreateRevision <= 0 || kv.CreateRevision > kv.ModRevision:
		return fmt.Sprintf("key %q has create_revision %d and mod_revision %d; the first has to be at least 1 and at most the second", kv.Key, kv.CreateRevision, kv.ModRevision)
	case kv.Version <= 0:
		return fmt.Sprintf("key %q has version %d; it has to be at least 1", kv.Key, kv.Version)
	case kv.Lease != 0:
		return fmt.Sprintf("key %q has lease %d, which nobody grants; leave it 0, and say --ttl=lease for keys that expire", kv.Key, kv.Lease)
	}
	return ""
}

// records are what a transformer has made.
type records struct {
	list      []*wire.KeyValue
	keys      map[string]int64 // revision of each
	revisions map[int64][]byte // key of each
	skipClash bool
	clashes   int64
}

func newRecords(skipClash bool) *records {
	return &records{keys: map[string]int64{}, revisions: map[int64][]byte{}, skipClash: skipClash}
}

func (r *records) add(kv *wire.KeyValue) error {
	reason := ""
	if at, ok := r.keys[string(kv.Key)]; ok {
		reason = fmt.Sprintf("key %q comes twice, at mod_revision %d and %d", kv.Key, at, kv.ModRevision)
	} else if key, ok := r.revisions[kv.ModRevision]; ok {
		reason = fmt.Sprintf("keys %q and %q both have mod_revision %d; of two keys with one revision only one can be kept", key, kv.Key, kv.ModRevision)
	}
	if reason != "" {
		if r.clashes++; r.skipClash {
			return nil
		}
		return errors.New(reason)
	}
	r.keys[string(kv.Key)], r.revisions[kv.ModRevision] = kv.ModRevision, kv.Key
	r.list = append(r.list, kv)
	return nil
}

// sort puts the records in the order of the store.
func (r *records) sort() {
	slices.SortFunc(r.list, func(a, b *wire.KeyValue) int { return cmp.Compare(a.ModRevision, b.ModRevision) })
}

// revisionBytes is the key of a record in etcd's bucket "key".
func revisionBytes(main int64) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 17), uint64(main))
	return binary.BigEndian.AppendUint64(append(b, '_'), 0)
}

// byDefault is the default transformer. Values keep their bytes, also those that are no UTF-8.
func byDefault(n item) *wire.KeyValue {
	if n.Dir {
		return nil
	}
	return &wire.KeyValue{Key: []byte(n.Key), Value: []byte(*n.Value), CreateRevision: int64(n.Created), ModRevision: int64(n.Modified), Version: 1}
}
