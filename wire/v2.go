package wire

// FieldV2 is the field of InternalRaftRequest that holds a V2Request (source: etcd v3.4 etcdserver/etcdserverpb/raft_internal.proto;
// 3.7 keeps the number reserved).
const FieldV2 int32 = 2

// V2Request is etcdserverpb.Request of etcd 2 and 3.0 to 3.5: one request of the v2 API, as it stands in the log. Those of its
// fields that concern only the member that was asked (Wait 10, Since 11, Quorum 14, Stream 16) are passed over.
//
// What is not written is zero, as everywhere in this package; etcd's own encoder writes zeros too, and both read the same.
// The message is of proto2: its strings may hold any bytes.
type V2Request struct {
	ID         uint64 // 1, of the waiter, in bare entries
	Method     string // 2, PUT, POST, DELETE, QGET, SYNC or MODE
	Path       string // 3, with its namespace: /1/foo
	Val        string // 4
	Dir        bool   // 5
	PrevValue  string // 6, "" when not given
	PrevIndex  uint64 // 7, 0 when not given
	PrevExist  *bool  // 8
	Expiration int64  // 9, Unix time in nanoseconds, 0 for none
	Recursive  bool   // 12
	Sorted     bool   // 13
	Time       int64  // 15, Unix time in nanoseconds at which the request was made; etcd sets it for SYNC only
	Refresh    *bool  // 17
}

// Unmarshal replaces m by the message in b. Nothing of m aliases b.
func (m *V2Request) Unmarshal(b []byte) error {
	*m = V2Request{}
	for i := 0; i < len(b); {
		f, end := next(b, i)
		if end < 0 {
			return malformed("Request", i, end)
		}
		i = end
		if f.tag&7 == typeBytes {
			m.setText(f.tag>>3, f.data)
		} else if f.tag&7 == typeVarint {
			m.setNumber(f.tag>>3, f.v)
		}
	}
	return nil
}

func (m *V2Request) setText(num uint64, data []byte) {
	switch num {
	case 2:
		m.Method = string(data)
	case 3:
		m.Path = string(data)
	case 4:
		m.Val = string(data)
	case 6:
		m.PrevValue = string(data)
	}
}

func (m *V2Request) setNumber(num, v uint64) {
	switch num {
	case 1:
		m.ID = v
	case 5:
		m.Dir = v != 0
	case 7:
		m.PrevIndex = v
	case 8:
		m.PrevExist = given(v)
	case 9:
		m.Expiration = int64(v)
	case 12:
		m.Recursive = v != 0
	case 13:
		m.Sorted = v != 0
	case 15:
		m.Time = int64(v)
	case 17:
		m.Refresh = given(v)
	}
}

func given(v uint64) *bool {
	is := v != 0
	return &is
}

func sizeGiven(v *bool, tag int) int {
	if v == nil {
		return 0
	}
	return tag + 1
}

func appendGiven(dst []byte, num uint64, v *bool) []byte {
	if v == nil {
		return dst
	}
	dst = appendVarint(dst, num<<3|typeVarint)
	if *v {
		return append(dst, 1)
	}
	return append(dst, 0)
}

// Size is the length of what Append writes, in bytes.
func (m *V2Request) Size() int {
	n := sizeUint(m.ID) + sizeBytes(m.Method) + sizeBytes(m.Path) + sizeBytes(m.Val) + sizeBool(m.Dir) + sizeBytes(m.PrevValue)
	n += sizeUint(m.PrevIndex) + sizeGiven(m.PrevExist, 1) + sizeInt(m.Expiration) + sizeBool(m.Recursive) + sizeBool(m.Sorted)
	return n + sizeInt(m.Time) + sizeGiven(m.Refresh, 2)
}

// Append appends the encoded message to dst.
func (m *V2Request) Append(dst []byte) []byte {
	dst = appendUint(dst, 1, m.ID)
	dst = appendBytes(dst, 2, m.Method)
	dst = appendBytes(dst, 3, m.Path)
	dst = appendBytes(dst, 4, m.Val)
	dst = appendBool(dst, 5, m.Dir)
	dst = appendBytes(dst, 6, m.PrevValue)
	dst = appendUint(dst, 7, m.PrevIndex)
	dst = appendGiven(dst, 8, m.PrevExist)
	dst = appendInt(dst, 9, m.Expiration)
	dst = appendBool(dst, 12, m.Recursive)
	dst = appendBool(dst, 13, m.Sorted)
	dst = appendInt(dst, 15, m.Time)
	return appendGiven(dst, 17, m.Refresh)
}
