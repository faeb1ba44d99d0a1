package wire

import "google.golang.org/protobuf/encoding/protowire"

// Fields of InternalRaftRequest that hold a request (source: etcd v3.7 api/etcdserverpb/raft_internal.proto). Those of
// authentication stand in auth.go.
const (
	FieldRange             int32 = 3
	FieldPut               int32 = 4
	FieldDeleteRange       int32 = 5
	FieldTxn               int32 = 6
	FieldCompaction        int32 = 7
	FieldLeaseGrant        int32 = 8
	FieldLeaseRevoke       int32 = 9
	FieldAlarm             int32 = 10
	FieldLeaseCheckpoint   int32 = 11
	fieldHeader            int32 = 100
	FieldClusterVersionSet int32 = 1300
	FieldMemberAttrSet     int32 = 1301
	FieldDowngradeInfoSet  int32 = 1302
	FieldDowngradeTest     int32 = 9900
)

// Internal is etcdserverpb.InternalRaftRequest: one entry of the replicated log. Its header (ID, Username, AuthRevision)
// and the one request it holds.
type Internal struct {
	ID           uint64 // header.ID; or ID (1) of entries that old members wrote
	Username     string // header.username
	AuthRevision uint64 // header.auth_revision
	Field        int32  // the field that holds the request, see the constants above, 0 when none
	Body         []byte // that request's bytes, not looked into

	// Likely is for Unmarshal, which leaves it: a Username that is the same uses its memory.
	Likely string
}

// holdsRequest says whether a field of InternalRaftRequest is a request.
func holdsRequest(num uint64) bool {
	switch n := int32(num); {
	case FieldV2 <= n && n <= FieldLeaseCheckpoint, FieldClusterVersionSet <= n && n <= FieldDowngradeInfoSet, n == FieldDowngradeTest:
		return true
	case n == FieldAuthEnable, FieldAuthDisable <= n && n <= FieldAuthStatus, FieldAuthUserAdd <= n && n <= FieldAuthRoleList,
		FieldAuthRoleAdd <= n && n <= FieldAuthRoleRevokePermission:
		return true
	}
	return false
}

func (m *Internal) mergeHeader(b []byte) error {
	for i := 0; i < len(b); {
		f, end := next(b, i)
		if end < 0 {
			return malformed("RequestHeader", i, end)
		}
		switch f.tag {
		case 1<<3 | typeVarint:
			m.ID = f.v
		case 2<<3 | typeBytes:
			if string(f.data) == m.Likely && m.Likely != "" {
				m.Username = m.Likely
			} else if m.Username, end = text(f.data, end); end < 0 {
				return malformed("RequestHeader", i, end)
			}
		case 3<<3 | typeVarint:
			m.AuthRevision = f.v
		}
		i = end
	}
	return nil
}

// Unmarshal replaces m by the message in b. Body aliases b. An entry that holds two different requests is refused: no
// member ever wrote one.
func (m *Internal) Unmarshal(b []byte) error {
	*m = Internal{Likely: m.Likely}
	var legacy uint64
	for i := 0; i < len(b); {
		f, end := next(b, i)
		if end < 0 {
			return malformed("InternalRaftRequest", i, end)
		}
		num := f.tag >> 3
		switch {
		case f.tag == 1<<3|typeVarint:
			legacy = f.v
		case f.tag == uint64(fieldHeader)<<3|typeBytes:
			if err := m.mergeHeader(f.data); err != nil {
				return err
			}
		case f.tag&7 == typeBytes && holdsRequest(num):
			if m.Field != 0 && m.Field != int32(num) {
				return malformed("InternalRaftRequest", i, badBody)
			}
			m.Field, m.Body = int32(num), merged(m.Body, f.data)
		}
		i = end
	}
	if legacy != 0 {
		m.ID = legacy
	}
	return nil
}

func (m *Internal) headerSize() int {
	return sizeUint(m.ID) + sizeBytes(m.Username) + sizeUint(m.AuthRevision)
}

func (m *Internal) bodySize(n int) int {
	if m.Field == 0 {
		return 0
	}
	return protowire.SizeTag(protowire.Number(m.Field)) + sizeVarint(uint64(n)) + n
}

// Size is the length of what Append writes, in bytes.
func (m *Internal) Size() int {
	return m.bodySize(len(m.Body)) + 1 + sizeLen(m.headerSize())
}

func (m *Internal) appendHeader(dst []byte) []byte {
	dst = appendVarint(dst, uint64(fieldHeader)<<3|typeBytes)
	dst = appendVarint(dst, uint64(m.headerSize()))
	dst = appendUint(dst, 1, m.ID)
	dst = appendBytes(dst, 2, m.Username)
	return appendUint(dst, 3, m.AuthRevision)
}

// Append appends the encoded entry to dst; the header is always written, as etcd does.
func (m *Internal) Append(dst []byte) []byte {
	if m.Field > fieldHeader {
		dst = m.appendHeader(dst)
	}
	if m.Field != 0 {
		dst = appendVarint(dst, uint64(m.Field)<<3|typeBytes)
		dst = appendVarint(dst, uint64(len(m.Body)))
		dst = append(dst, m.Body...)
	}
	if m.Field > fieldHeader {
		return dst
	}
	return m.appendHeader(dst)
}

func (m *AlarmRequest) merge(b []byte) error {
	for i := 0; i < len(b); {
		f, end := next(b, i)
		if end < 0 {
			return malformed("AlarmRequest", i, end)
		}
		i = end
		switch f.tag {
		case 1<<3 | typeVarint:
			m.Action = AlarmAction(f.v)
		case 2<<3 | typeVarint:
			m.MemberID = f.v
		case 3<<3 | typeVarint:
			m.Alarm = AlarmType(f.v)
		}
	}
	return nil
}

// Unmarshal replaces m by the message in b.
func (m *AlarmRequest) Unmarshal(b []byte) error {
	*m = AlarmRequest{}
	return m.merge(b)
}

// Size is the length of what Append writes, in bytes.
func (m *AlarmRequest) Size() int {
	return sizeInt(int64(m.Action)) + sizeUint(m.MemberID) + sizeInt(int64(m.Alarm))
}

// Append appends the encoded message to dst.
func (m *AlarmRequest) Append(dst []byte) []byte {
	dst = appendInt(dst, 1, int64(m.Action))
	dst = appendUint(dst, 2, m.MemberID)
	return appendInt(dst, 3, int64(m.Alarm))
}

func (m *AlarmMember) merge(b []byte) error {
	for i := 0; i < len(b); {
		f, end := next(b, i)
		if end < 0 {
			return malformed("AlarmMember", i, end)
		}
		i = end
		switch f.tag {
		case 1<<3 | typeVarint:
			m.MemberID = f.v
		case 2<<3 | typeVarint:
			m.Alarm = AlarmType(f.v)
		}
	}
	return nil
}

// Unmarshal replaces m by the message in b.
func (m *AlarmMember) Unmarshal(b []byte) error {
	*m = AlarmMember{}
	return m.merge(b)
}

// Size is the length of what Append writes, in bytes.
func (m *AlarmMember) Size() int {
	return sizeUint(m.MemberID) + sizeInt(int64(m.Alarm))
}

// Append appends the encoded message to dst.
func (m *AlarmMember) Append(dst []byte) []byte {
	dst = appendUint(dst, 1, m.MemberID)
	return appendInt(dst, 2, int64(m.Alarm))
}

// Unmarshal replaces m by the message in b.
func (m *ClusterVersionSetRequest) Unmarshal(b []byte) error {
	*m = ClusterVersionSetRequest{}
	for i := 0; i < len(b); {
		f, end := next(b, i)
		if end >= 0 && f.tag == 1<<3|typeBytes {
			m.Ver, end = text(f.data, end)
		}
		if end < 0 {
			return malformed("ClusterVersionSetRequest", i, end)
		}
		i = end
	}
	return nil
}

// Size is the length of what Append writes, in bytes.
func (m *ClusterVersionSetRequest) Size() int { return sizeBytes(m.Ver) }

// Append appends the encoded message to dst.
func (m *ClusterVersionSetRequest) Append(dst []byte) []byte { return appendBytes(dst, 1, m.Ver) }

func (m *ClusterMemberAttrSetRequest) mergeAttributes(b []byte) error {
	for i := 0; i < len(b); {
		f, end := next(b, i)
		var url string
		switch {
		case end < 0:
		case f.tag == 1<<3|typeBytes:
			m.Name, end = text(f.data, end)
		case f.tag == 2<<3|typeBytes:
			url, end = text(f.data, end)
			m.ClientURLs = append(m.ClientURLs, url)
		}
		if end < 0 {
			return malformed("Attributes", i, end)
		}
		i = end
	}
	return nil
}

// Unmarshal replaces m by the message in b. The list's memory is used again.
func (m *ClusterMemberAttrSetRequest) Unmarshal(b []byte) error {
	*m = ClusterMemberAttrSetRequest{ClientURLs: m.ClientURLs[:0]}
	for i := 0; i < len(b); {
		f, end := next(b, i)
		if end < 0 {
			return malformed("ClusterMemberAttrSetRequest", i, end)
		}
		i = end
		switch f.tag {
		case 1<<3 | typeVarint:
			m.MemberID = f.v
		case 2<<3 | typeBytes:
			if err := m.mergeAttributes(f.data); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *ClusterMemberAttrSetRequest) attributesSize() int {
	n := sizeBytes(m.Name)
	for _, u := range m.ClientURLs {
		n += sizeLen(len(u))
	}
	return n
}

// Size is the length of what Append writes, in bytes.
func (m *ClusterMemberAttrSetRequest) Size() int {
	return sizeUint(m.MemberID) + sizeLen(m.attributesSize())
}

// Append appends the encoded message to dst; the attributes are always written, as etcd does.
func (m *ClusterMemberAttrSetRequest) Append(dst []byte) []byte {
	dst = appendUint(dst, 1, m.MemberID)
	dst = appendLen(dst, 2, m.attributesSize())
	dst = appendBytes(dst, 1, m.Name)
	for _, u := range m.ClientURLs {
		dst = append(appendLen(dst, 2, len(u)), u...)
	}
	return dst
}

// Unmarshal replaces m by the message in b.
func (m *DowngradeInfoSetRequest) Unmarshal(b []byte) error {
	*m = DowngradeInfoSetRequest{}
	for i := 0; i < len(b); {
		f, end := next(b, i)
		switch {
		case end < 0:
		case f.tag == 1<<3|typeVarint:
			m.Enabled = f.v != 0
		case f.tag == 2<<3|typeBytes:
			m.Ver, end = text(f.data, end)
		}
		if end < 0 {
			return malformed("DowngradeInfoSetRequest", i, end)
		}
		i = end
	}
	return nil
}

// Size is the length of what Append writes, in bytes.
func (m *DowngradeInfoSetRequest) Size() int { return sizeBool(m.Enabled) + sizeBytes(m.Ver) }

// Append appends the encoded message to dst.
func (m *DowngradeInfoSetRequest) Append(dst []byte) []byte {
	return appendBytes(appendBool(dst, 1, m.Enabled), 2, m.Ver)
}
